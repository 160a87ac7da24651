#!/usr/bin/python
# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_service_wait
short_description: Wait until a compose service is healthy, or tell why it never will be
version_added: 0.1.0
description:
  - Watches the container of one compose service through Docker's API until its healthcheck passes.
  - Fails as soon as the container has exited or was restarted, or after O(timeout), with the last lines of its log.
    An engine that cannot start is told within seconds, where waiting for health alone would take the whole timeout.
author:
  - llmops.fleet contributors (@llmops)
options:
  project_name:
    description: Name of the compose project.
    type: str
    default: llmops-fleet
  service:
    description: Name of the service.
    type: str
    required: true
  timeout:
    description: How long to wait for it, in seconds.
    type: int
    default: 1800
  interval:
    description: Pause between two looks, in seconds.
    type: float
    default: 1.0
  log_lines:
    description: How many lines of the log a failure shows.
    type: int
    default: 30
  docker_socket:
    description: Socket of the Docker Engine.
    type: path
    default: /var/run/docker.sock
attributes:
  check_mode:
    support: full
    description: Returns at once.
  diff_mode:
    support: none
    description: Changes nothing.
"""

EXAMPLES = r"""
- name: Wait until the chat service is healthy
  llmops.fleet.compose_service_wait:
    service: chat
    timeout: 900
"""

RETURN = r"""
container:
  description: Name of the container.
  returned: success, not in check mode
  type: str
  sample: llmops-fleet-chat-1
seconds:
  description: How long it took since the container was started.
  returned: success, not in check mode
  type: float
  sample: 51.4
log:
  description: The last lines of the log.
  returned: failure
  type: list
  elements: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.fleet.plugins.module_utils import _docker_api, _host


def find(docker, project, service):
    for container in _host.docker_containers(docker.get("/containers/json", {"all": "1"})):
        if container["project"] == project and container["service"] == service:
            return container
    return None


def verdict(state, restarted):
    """None while it is still starting, "" when it serves, else what is wrong."""
    if restarted or state["Status"] in ("exited", "dead", "restarting"):
        code = f"exited with code {state['ExitCode']}"
        return f"{code} (out of memory)" if state.get("OOMKilled") else code
    health = (state.get("Health") or {}).get("Status")
    if state["Status"] != "running" or health == "starting":
        return None
    return "" if health in (None, "none", "healthy") else "is unhealthy"


def wait(docker, params):
    """The container and what is wrong with it ("" if nothing)."""
    deadline = time.monotonic() + params["timeout"]
    restarts = None
    while True:
        container = find(docker, params["project_name"], params["service"])
        if container is None:
            return None, "has no container"
        details = docker.get(f"/containers/{container['id']}/json")
        count = details.get("RestartCount", 0)
        # restarts from before this watch say nothing about this start
        restarts = count if restarts is None else restarts
        wrong = verdict(details["State"], count > restarts)
        if wrong is not None:
            return container, wrong
        if time.monotonic() > deadline:
            return container, f"is not healthy after {params['timeout']} s; raise start_timeout if it only needs longer"
        time.sleep(params["interval"])


def main():
    module = AnsibleModule(
        argument_spec={
            "project_name": {"type": "str", "default": "llmops-fleet"},
            "service": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 1800},
            "interval": {"type": "float", "default": 1.0},
            "log_lines": {"type": "int", "default": 30},
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False)
    docker = _docker_api.DockerAPI(module.params["docker_socket"], timeout=30)
    service, started = module.params["service"], time.monotonic()
    try:
        container, wrong = wait(docker, module.params)
        log = docker.logs(container["id"], module.params["log_lines"]).splitlines() if wrong and container else []
    except _docker_api.DockerError as error:
        module.fail_json(msg=f"service {service}: {error}")
    if wrong:
        tail = "\n".join(["", f"last {len(log)} lines of its log:", *log]) if log else ""
        module.fail_json(msg=f"service {service} {wrong}{tail}", log=log)
    module.exit_json(changed=False, container=container["name"], seconds=round(time.monotonic() - started, 1))


if __name__ == "__main__":
    main()
