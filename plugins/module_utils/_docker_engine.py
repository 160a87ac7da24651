# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Docker on a host lacks, and what its daemon.json becomes.

daemon.json is shared with whoever else configures this Docker. A record of the values that are ours lies beside the
collection's state; with it a variable that is gone takes its key along, and nothing that others wrote.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError

DAEMON_CONFIG = "/etc/docker/daemon.json"
PROXY_DROPIN = "llmops-fleet-proxy.conf"

Reason = Mapping[str, str]
_NOTHING = object()


def drift(
    host: Mapping[str, Any],
    daemon_config: Mapping[str, Any],
    ca_certificates: Mapping[str, str] | None = None,
    proxy_dropin: str = "",
    compose_min: str = "0",
    python_packages: Sequence[str] = (),
) -> list[Reason]:
    """Why the role has to act, one {part, problem} each; empty where all is as it should be.

    ``ca_certificates`` maps file names to SHA-256, ``proxy_dropin`` is the SHA-256 of the wanted drop-in or ''.
    """
    docker = host["docker"]
    reasons = [("ca_certificates", problem) for problem in _ca_problems(host["ca_certificates"], ca_certificates or {})]
    reasons += [("engine", problem) for problem in _engine_problems(docker, compose_min)]
    reasons += [
        ("python", f"Python cannot import {package}")
        for package in python_packages
        if not host["python_packages"].get(package)
    ]
    if plan_daemon_config(docker, daemon_config)["drift"]:
        reasons.append(("daemon_config", f"{DAEMON_CONFIG} is not as wanted"))
    if docker["dropins"].get(PROXY_DROPIN, "") != proxy_dropin:
        reasons.append(("proxy", f"the proxy drop-in {PROXY_DROPIN} is not as wanted"))
    if docker["installed"] and not docker["active"]:
        reasons.append(("service", docker["error"] or "Docker is not running"))
    return [{"part": part, "problem": problem} for part, problem in reasons]


def _ca_problems(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    return [
        f"CA certificate {name} {'differs' if name in found else 'is missing'}"
        for name, digest in wanted.items()
        if found.get(name) != digest
    ]


def _engine_problems(docker: Mapping[str, Any], compose_min: str) -> list[str]:
    problems = [] if docker["installed"] else ["Docker Engine is not installed"]
    compose = docker["compose_version"]
    if not compose:
        problems.append("Docker's compose plugin is not installed")
    elif version_tuple(compose) < version_tuple(compose_min):
        problems.append(f"Docker's compose plugin {compose} is older than {compose_min}")
    return problems


def version_tuple(text: str) -> tuple[int, ...]:
    match = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(int(number) for number in match.group(1).split(".")) if match else ()


def plan_daemon_config(docker: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """What daemon.json becomes.

    config: the whole file; write: whether it differs from the one on the host; drift: whether anything is to do at all;
    restart: whether a daemon that runs now has to be restarted; record: what is ours, written after the restart,
    so that a run that was cut off between the two restarts on its next try.
    """
    problem = docker.get("daemon_config_error")
    if problem:
        raise SpecError(str(problem), "not touched; correct the file or remove it")
    existing = docker.get("daemon_config")
    before = docker.get("daemon_config_record")
    config = merge(existing or {}, ours, before or {})
    write = config != (existing or {})
    # A host where nothing is ours, now and before, has no record and needs none.
    drifted = write or (before or {}) != ours
    return {
        "config": config,
        "write": write,
        "drift": drifted,
        "restart": drifted and bool(docker.get("active")),
        "record": {"values": copy.deepcopy(dict(ours))},
    }


def merge(existing: Mapping[str, Any], ours: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """``existing`` with our values in it and those we set ``before`` and want no longer out of it."""
    merged: dict[str, Any] = {}
    for key in [*existing, *(key for key in ours if key not in existing)]:
        value = _merge_value(existing.get(key, _NOTHING), ours.get(key, _NOTHING), before.get(key, _NOTHING))
        if value is not _NOTHING:
            merged[key] = value
    return merged


def _merge_value(existing: Any, ours: Any, before: Any) -> Any:
    """Dicts merge by key, lists unite, anything else is ours. What is left empty by our going away goes too."""
    if ours is _NOTHING and before is _NOTHING:
        return copy.deepcopy(existing)
    last = before if ours is _NOTHING else ours
    if isinstance(existing, dict) and isinstance(last, dict):
        return _merge_dicts(existing, ours, before)
    if isinstance(existing, list) and isinstance(last, list):
        return _merge_lists(existing, ours, before)
    return _NOTHING if ours is _NOTHING else copy.deepcopy(ours)


def _merge_dicts(existing: dict[str, Any], ours: Any, before: Any) -> Any:
    merged = merge(existing, ours if isinstance(ours, dict) else {}, before if isinstance(before, dict) else {})
    return merged if merged or ours is not _NOTHING else _NOTHING


def _merge_lists(existing: list[Any], ours: Any, before: Any) -> Any:
    """Ours first and in our order (the order of mirrors means something), then what others have in the list."""
    wanted = list(ours) if isinstance(ours, list) else []
    gone = before if isinstance(before, list) else []
    others = [value for value in existing if value not in wanted and value not in gone]
    united = copy.deepcopy(wanted + others)
    return united if united or ours is not _NOTHING else _NOTHING
