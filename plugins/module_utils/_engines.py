# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry of inference engines: what each serves and the command that makes it do so.

A new engine is one ``Engine`` in ``ENGINES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError

CONTAINER_PORT = 8000


@dataclass(frozen=True)
class Engine:
    """One engine.

    ``arguments(service, model_path, facts)`` gives what follows the image's entrypoint. ``health_path``
    answers 200 once requests are served. ``shm_size`` is the default of /dev/shm.
    """

    name: str
    tasks: tuple[str, ...]
    arguments: Callable[[Mapping[str, Any], str, Mapping[str, Any]], list[str]]
    health_path: str = "/health"
    shm_size: str = "1g"
    environment: Mapping[str, str] = field(default_factory=dict)

    def healthcheck_command(self) -> list[str]:
        """Python is in every image of an engine written in it; curl is not."""
        script = (
            "import http.client as h, sys; "
            f"c = h.HTTPConnection('127.0.0.1', {CONTAINER_PORT}, timeout=5); "
            f"c.request('GET', '{self.health_path}'); sys.exit(c.getresponse().status != 200)"
        )
        return ["CMD", "python3", "-c", script]


def _tool_parser(service: Mapping[str, Any], facts: Mapping[str, Any]) -> str | None:
    """The parser's name: as given, or from how the model's chat template writes a call."""
    tools = service["tools"]
    if tools is False:
        return None
    if isinstance(tools, str):
        return tools
    if facts.get("tool_call_tag"):
        return "hermes"
    if "tool_call_tag" not in facts:
        # only in check mode, where the model may not have been downloaded
        return "(told by the model's chat template once it is downloaded)"
    raise SpecError(
        f"service {service['name']}.tools",
        f'cannot tell the tool-call parser from the chat template of model "{service["model"]}"; name it, for example '
        "tools: hermes (vllm serve --help=tool-call-parser lists them)",
    )


def _vllm_arguments(service: Mapping[str, Any], model_path: str, facts: Mapping[str, Any]) -> list[str]:
    out = [model_path, "--served-model-name", service["name"], *service["aliases"]]
    out += ["--host", "0.0.0.0", "--port", str(CONTAINER_PORT)]
    if service["task"] != "chat":
        out += ["--runner", "pooling"]
    if service["max_model_len"]:
        out += ["--max-model-len", str(service["max_model_len"])]
    gpus = service["gpus"]
    count = len(gpus) if isinstance(gpus, Sequence) and not isinstance(gpus, str) else int(gpus)
    if count > 1:
        # one host: multiprocessing; Ray is no longer among vLLM's dependencies
        out += ["--tensor-parallel-size", str(count), "--distributed-executor-backend", "mp"]
    if service["gpu_share"] is not None:
        out += ["--gpu-memory-utilization", f"{service['gpu_share']:g}"]
    parser = _tool_parser(service, facts)
    if parser:
        out += ["--enable-auto-tool-choice", "--tool-call-parser", parser]
    if service["reasoning"]:
        out += ["--reasoning-parser", service["reasoning"]]
    return out + list(service["extra_args"])


ENGINES: Mapping[str, Engine] = {
    "vllm": Engine(
        name="vllm",
        tasks=("chat", "embedding", "rerank"),
        arguments=_vllm_arguments,
        environment={
            # a served model is complete on disk; nothing may be fetched behind the operator's back
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
        },
    ),
}
