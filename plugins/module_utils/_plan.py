# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services of one host + what the host has + what the models are -> the plan of that host.

Deterministic: the same inputs give the same plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.llmops.fleet.plugins.module_utils._engines import CONTAINER_PORT, ENGINES
from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError
from ansible_collections.llmops.fleet.plugins.module_utils._image import ImageName

PROJECT = "llmops-fleet"


def _gpu(host_gpus: Sequence[Mapping[str, Any]], wanted: int | str) -> Mapping[str, Any] | None:
    for gpu in host_gpus:
        if wanted in (gpu["index"], gpu["uuid"]):
            return gpu
    return None


def assign_gpus(services: Sequence[Mapping[str, Any]], host_gpus: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """UUIDs per service, never promising more than a whole GPU.

    Named GPUs are taken first, counts then fill up from the lowest index; a service without ``gpu_share``
    takes its GPUs whole. Raises SpecError naming the service that does not fit.
    """
    free = {gpu["uuid"]: 1.0 for gpu in host_gpus}
    taken: dict[str, list[str]] = {}
    present = [service for service in services if service["state"] != "absent"]
    named = [service for service in present if not isinstance(service["gpus"], int)]
    counted = [service for service in present if isinstance(service["gpus"], int)]
    for service in (*named, *counted):
        share = service["gpu_share"] or 1.0
        where = f"service {service['name']}.gpus"
        chosen: list[str] = []
        if isinstance(service["gpus"], int):
            chosen = [uuid for uuid, room in free.items() if room + 1e-9 >= share][: service["gpus"]]
            if len(chosen) < service["gpus"]:
                raise SpecError(
                    where,
                    f"needs {service['gpus']} GPUs with {share:g} free each; the host has {len(host_gpus)}, "
                    f"{len(chosen)} of them with that much left; lower gpus or gpu_share",
                )
        else:
            for wanted in service["gpus"]:
                gpu = _gpu(host_gpus, wanted)
                if gpu is None:
                    raise SpecError(where, f"the host has no GPU {wanted}; it has {len(host_gpus)}")
                if free[gpu["uuid"]] + 1e-9 < share:
                    raise SpecError(where, f"GPU {wanted} has {free[gpu['uuid']]:g} left, {share:g} is asked for")
                chosen.append(gpu["uuid"])
        for uuid in chosen:
            free[uuid] -= share
        taken[service["name"]] = chosen
    return taken


def needed_images(services: Sequence[Mapping[str, Any]], stored: Sequence[str]) -> list[str]:
    """The images of present services that the host's Docker does not have, each once."""
    have = set(stored)
    wanted = dict.fromkeys(service["image"] for service in services if service["state"] == "present")
    return [image for image in wanted if not ImageName.parse(image, "image").stored_names() & have]


def host_plan(
    services: Sequence[Mapping[str, Any]],
    host: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
    missing_models: bool = False,
) -> dict[str, Any]:
    """The plan of one host.

    ``services``: its normalised services. ``host``: what host_info returned. ``models``: status by name as
    model_download returned it; one that is not in the store is an error unless ``missing_models`` (check
    mode, where nothing was downloaded). Returns ``{"project", "services": [...]}`` with services in start order.
    """
    gpus = assign_gpus(services, host.get("gpus") or [])
    for service in services:
        model = models.get(service["model"]) or {}
        if service["state"] != "absent" and not model.get("path") and not missing_models:
            raise SpecError(
                f"service {service['name']}.model",
                f'model "{service["model"]}" is not in the store of this host: '
                f"{model.get('reason') or 'not looked for'}",
            )
    return {
        "project": PROJECT,
        "services": [
            _planned(service, gpus.get(service["name"], []), models.get(service["model"]) or {})
            if service["state"] != "absent"
            else {"name": service["name"], "state": "absent"}
            for service in services
        ],
    }


def _planned(service: Mapping[str, Any], gpus: Sequence[str], model: Mapping[str, Any]) -> dict[str, Any]:
    engine = ENGINES[service["engine"]]
    target = f"/models/{service['model']}"
    return {
        "name": service["name"],
        "state": service["state"],
        "task": service["task"],
        "engine": service["engine"],
        "image": service["image"],
        "argv": engine.arguments(service, target, model.get("facts") or {}),
        "env": {**engine.environment, **service["extra_env"]},
        "secret_env": list(service["secret_env"]),
        "gpus": list(gpus),
        "listen": service["listen"],
        "port": service["port"],
        "container_port": CONTAINER_PORT,
        # a model that check mode has not fetched has no directory yet
        "model": {"name": service["model"], "source": model.get("path") or "(not downloaded yet)", "target": target},
        "shm_size": service["shm_size"] or engine.shm_size,
        "healthcheck": engine.healthcheck_command(),
        "start_timeout": service["start_timeout"],
    }
