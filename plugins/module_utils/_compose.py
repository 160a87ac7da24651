# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's plan -> its compose project, and what has to happen for the running one to become it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

LABEL = "llmops.fleet"
DEFINITION_LABEL = f"{LABEL}.definition"


def _literal(value: str) -> str:
    """Compose interpolates ``$`` in every string; double it so that it stays one."""
    return value.replace("$", "$$")


def secret_reference(service: str, variable: str) -> str:
    """The name of a service's secret in .env: ``my-chat``, ``HF_TOKEN`` -> ``SERVICE_MY_DCHAT_ENV_HF_TOKEN``.

    Two services never share one: an underscore inside the service's part is followed by U (it was one) or D
    (it was a dash), never by E.
    """
    return f"SERVICE_{service.replace('_', '_u').replace('-', '_d').upper()}_ENV_{variable}"


def lines_of(env: Sequence[str], services: Sequence[str], theirs: bool) -> list[str]:
    """The lines of .env that hold secrets of ``services``, or with ``theirs`` false all the others."""
    prefixes = tuple(secret_reference(service, "") for service in services)
    return [line for line in env if bool(prefixes and line.startswith(prefixes)) is theirs]


def _published(listen: str, port: int, container_port: int) -> str:
    address = f"[{listen}]" if ":" in listen else listen
    return f"{address}:{port}:{container_port}"


def _service(planned: Mapping[str, Any], start_interval: bool) -> dict[str, Any]:
    """One planned service as compose wants it, hardened; see the module compose_project for the choices."""
    model = planned["model"]
    out: dict[str, Any] = {
        "image": planned["image"],
        "command": [_literal(argument) for argument in planned["argv"]],
        "environment": {
            **{name: _literal(value) for name, value in sorted(planned["env"].items())},
            **{name: f"${{{secret_reference(planned['name'], name)}}}" for name in planned["secret_env"]},
        },
        "ports": [_published(planned["listen"], planned["port"], planned["container_port"])],
        "volumes": [
            {
                "type": "bind",
                "source": _literal(model["source"]),
                "target": model["target"],
                "read_only": True,
                # a missing model is an error, not an empty directory owned by root
                "bind": {"create_host_path": False},
            }
        ],
        "restart": "unless-stopped",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "shm_size": planned["shm_size"],
        "stop_grace_period": "60s",
        "logging": {"driver": "json-file", "options": {"max-size": "100m", "max-file": "3"}},
        "healthcheck": {
            "test": [_literal(part) for part in planned["healthcheck"]],
            "interval": "10s",
            "timeout": "10s",
            "retries": 6,
            "start_period": f"{planned['start_timeout']}s",
            **({"start_interval": "2s"} if start_interval else {}),
        },
        "labels": {
            f"{LABEL}.service": planned["name"],
            f"{LABEL}.task": planned["task"],
            f"{LABEL}.model": model["name"],
        },
    }
    if planned["gpus"]:
        devices = {"driver": "nvidia", "device_ids": list(planned["gpus"]), "capabilities": ["gpu"]}
        out["deploy"] = {"resources": {"reservations": {"devices": [devices]}}}
    return out


def definition_digest(service: Mapping[str, Any], secrets: Mapping[str, str]) -> str:
    """Identity of one service: its definition and the values of its secrets."""
    body = json.dumps([service, sorted(secrets.items())], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()[:32]


def supports_start_interval(docker_version: str | None) -> bool:
    """``healthcheck.start_interval`` came with Docker Engine 25 (API 1.44)."""
    try:
        return int((docker_version or "0").split(".", maxsplit=1)[0]) >= 25
    except ValueError:
        return False


def compose_project(
    plan: Mapping[str, Any], secrets: Mapping[str, Mapping[str, str]], docker_version: str | None
) -> dict[str, Any] | None:
    """The compose file of a plan as a mapping, or None if no service is left."""
    services = {}
    for planned in plan["services"]:
        if planned["state"] == "absent":
            continue
        service = _service(planned, supports_start_interval(docker_version))
        digest = definition_digest(service, secrets.get(planned["name"], {}))
        service["labels"][DEFINITION_LABEL] = digest
        services[planned["name"]] = service
    return {"name": plan["project"], "services": services} if services else None


def secret_variables(secrets: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """What .env holds: {reference: value} of every service's secrets."""
    return {
        secret_reference(service, name): value
        for service, values in sorted(secrets.items())
        for name, value in sorted(values.items())
    }


def environment_file(variables: Mapping[str, str]) -> str:
    """The text of .env, one quoted variable a line."""
    return "".join(f"{name}={quote_env(value)}\n" for name, value in sorted(variables.items()))


def quote_env(value: str) -> str:
    """Quote for compose's dotenv: single quotes are literal; double quotes where the value has one itself."""
    if "'" not in value and "\n" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("\n", "\\n")
    return f'"{escaped}"'


def actions(
    definition: Mapping[str, Any] | None,
    containers: Sequence[Mapping[str, Any]],
    stopped: Sequence[str] = (),
    absent: Sequence[str] = (),
) -> dict[str, Any]:
    """What the containers of the project need to become what is defined.

    ``definition``: the compose mapping; ``containers``: those of the project, as host_info returns them;
    ``stopped`` and ``absent``: the services whose state that is. Returns ``start``, ``wait``, ``stop`` and
    ``remove`` (lists of service names in the definition's order), ``orphans`` (services that nobody mentions
    any more) and ``reasons`` (one line a service).
    """
    running = {container["service"]: container for container in containers}
    services = (definition or {}).get("services", {})
    out: dict[str, Any] = {"start": [], "wait": [], "stop": [], "remove": [], "orphans": [], "reasons": {}}
    for name, service in services.items():
        action, reason = _action(service, running.get(name), name in stopped)
        if action:
            out[action].append(name)
            out["reasons"][name] = reason
    for name in running:
        if name in absent and name not in services:
            out["remove"].append(name)
            out["reasons"][name] = "state is absent"
        elif name not in services:
            out["orphans"].append(name)
    return out


def _action(
    service: Mapping[str, Any], container: Mapping[str, Any] | None, stopped: bool
) -> tuple[str | None, str | None]:
    if stopped:
        if container is not None and container["state"] in ("running", "restarting", "paused"):
            return "stop", "state is stopped"
        return None, None
    if container is None:
        return "start", "no container"
    if container["definition"] != service["labels"][DEFINITION_LABEL]:
        return "start", "definition changed"
    if container["state"] != "running":
        return "start", f"container is {container['state']}"
    if container["health"] == "unhealthy":
        return "start", "container is unhealthy"
    if container["health"] == "starting":
        return "wait", "container is starting"
    return None, None


def restored(
    previous: Mapping[str, Any] | None, current: Mapping[str, Any] | None, keep: Sequence[str]
) -> dict[str, Any] | None:
    """The project after a failed deployment: ``keep`` (what started well) stays, the rest is as it was."""
    old = (previous or {}).get("services", {})
    new = (current or {}).get("services", {})
    services = {name: definition for name, definition in old.items() if name not in keep}
    services.update({name: new[name] for name in new if name in keep})
    project = (current or previous or {}).get("name")
    return {"name": project, "services": services} if services else None


def without(current: Mapping[str, Any] | None, names: Sequence[str]) -> dict[str, Any] | None:
    """The project less some services; None if none is left."""
    services = {name: service for name, service in (current or {}).get("services", {}).items() if name not in names}
    return {"name": (current or {}).get("name"), "services": services} if services else None


def changed_services(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[str]:
    """Services that appeared, disappeared or are defined otherwise."""
    old, new = (before or {}).get("services") or {}, (after or {}).get("services") or {}
    return [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]
