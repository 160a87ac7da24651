#!/usr/bin/python
# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_project
short_description: Write a host's compose project and tell which services have to be started, stopped or removed
version_added: 0.1.0
description:
  - Writes C(compose.yaml) and C(.env) of one compose project, but only if what they mean has changed; another order of
    keys, other quoting or comments are left alone.
  - Compares the definition with the containers that exist and returns what has to be done. It starts and stops nothing;
    M(community.docker.docker_compose_v2) does.
  - The files are written to a temporary name and moved. The files they replace are kept as C(compose.yaml.previous) and
    C(.env.previous), which O(state=restored) brings back.
author:
  - llmops.fleet contributors (@llmops)
options:
  project_dir:
    description: Directory of the project, made if it is missing.
    type: path
    required: true
  state:
    description:
      - V(present) writes O(definition).
      - V(absent) takes the services in O(absent) out of the project as it is and leaves the rest.
      - V(restored) brings back the project as it was before the last change, except for the services in O(keep).
    type: str
    choices: [present, absent, restored]
    default: present
  definition:
    description:
      - The compose project as a mapping with C(name) and C(services), as the filter
        P(llmops.fleet.compose_definition#filter) makes it. An empty mapping removes the files.
      - Every service carries the label C(llmops.fleet.definition), by which its container is compared.
    type: dict
    default: {}
  project_name:
    description: Name of the compose project whose containers are compared.
    type: str
    default: llmops-fleet
  environment:
    description: Secrets for C(.env), by the service and the name of the variable. Written with mode 0600, never shown.
    type: dict
    default: {}
  stopped:
    description: Services that are defined but shall not run.
    type: list
    elements: str
    default: []
  absent:
    description: Services that shall have no container.
    type: list
    elements: str
    default: []
  keep:
    description: With O(state=restored), services that stay as they are now.
    type: list
    elements: str
    default: []
  docker_socket:
    description: Socket of the Docker Engine.
    type: path
    default: /var/run/docker.sock
attributes:
  check_mode:
    support: full
    description: Says what would change without changing it, also where Docker is not installed yet.
  diff_mode:
    support: full
    description: Shows C(compose.yaml) before and after. Of C(.env) only the names are shown.
requirements:
  - PyYAML, where a C(compose.yaml) exists already
"""

EXAMPLES = r"""
- name: Write the compose project
  llmops.fleet.compose_project:
    project_dir: /opt/llmops-fleet/compose
    definition: "{{ plan | llmops.fleet.compose_definition(docker_version='29.7.2') }}"
  register: project

- name: Start what changed
  community.docker.docker_compose_v2:
    project_src: /opt/llmops-fleet/compose
    services: ["{{ item }}"]
    recreate: always
  loop: "{{ project.start }}"
"""

RETURN = r"""
services:
  description: Services of the definition, in its order.
  returned: always
  type: list
  elements: str
  sample: [chat, embed]
changed_services:
  description: Services whose definition in the file changed, appeared or disappeared.
  returned: always
  type: list
  elements: str
  sample: [chat]
start:
  description: Services to start or to recreate, in the order of the definition.
  returned: always
  type: list
  elements: str
  sample: [chat]
wait:
  description: Services whose container is still starting.
  returned: always
  type: list
  elements: str
stop:
  description: Services to stop.
  returned: always
  type: list
  elements: str
remove:
  description: Services whose container has to be removed.
  returned: always
  type: list
  elements: str
orphans:
  description: Services that have a container, but are neither defined nor to be removed. They are left alone.
  returned: always
  type: list
  elements: str
containers:
  description: Name of the container by service, of those that exist.
  returned: always
  type: dict
  sample: {chat: llmops-fleet-chat-1}
reasons:
  description: Why, by service.
  returned: always
  type: dict
  sample: {chat: definition changed}
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    import yaml
except ImportError:
    yaml = None

from ansible_collections.llmops.fleet.plugins.module_utils import _compose, _docker_api, _host


class Project:
    """The files of one compose project on this host."""

    def __init__(self, module):
        self.module = module
        self.directory = module.params["project_dir"]
        self.compose = os.path.join(self.directory, "compose.yaml")
        self.env = os.path.join(self.directory, ".env")

    def read_text(self, path):
        try:
            with open(path, encoding="utf-8") as stream:
                return stream.read()
        except FileNotFoundError:
            return ""

    def parse(self, path):
        """The compose file as a mapping; None if there is none or nobody can read it."""
        text = self.read_text(path)
        if not text:
            return None
        if yaml is None:
            self.module.fail_json(msg=missing_required_lib("PyYAML"))
        try:
            loaded = yaml.safe_load(text)
        except yaml.YAMLError:
            return None  # whatever broke it, it is written anew
        return loaded if isinstance(loaded, dict) else None

    def dump(self, definition):
        if not definition:
            return ""
        header = "# Managed by llmops.fleet: changes are overwritten by the next run.\n"
        if yaml is None:  # JSON is YAML too
            return header + json.dumps(definition, indent=2) + "\n"
        return header + yaml.safe_dump(definition, sort_keys=False, width=120)

    def write(self, path, text, mode):
        """Keep what was there as .previous, then put ``text`` (or nothing) in its place."""
        if os.path.exists(path):
            self.module.atomic_move(path, f"{path}.previous") if not text else self.copy_previous(path)
        elif os.path.exists(f"{path}.previous"):
            os.unlink(f"{path}.previous")
        if text:
            self.replace(path, text, mode)

    def copy_previous(self, path):
        self.replace(f"{path}.previous", self.read_text(path), os.stat(path).st_mode & 0o777)

    def replace(self, path, text, mode):
        temporary = f"{path}.{os.getpid()}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        self.module.atomic_move(temporary, path)
        os.chmod(path, mode)


def wanted_state(project, params):
    """The definition and the text of .env that shall be there."""
    current, env = project.parse(project.compose), project.read_text(project.env).splitlines(True)
    if params["state"] == "absent":
        return _compose.without(current, params["absent"]), "".join(_compose.lines_of(env, params["absent"], False))
    if params["state"] == "restored":
        old = project.read_text(f"{project.env}.previous").splitlines(True)
        lines = _compose.lines_of(old, params["keep"], False) + _compose.lines_of(env, params["keep"], True)
        previous = project.parse(f"{project.compose}.previous")
        return _compose.restored(previous, current, params["keep"]), "".join(sorted(lines))
    variables = _compose.secret_variables(params["environment"])
    return params["definition"] or None, _compose.environment_file(variables)


def names(text):
    return [line.partition("=")[0] for line in text.splitlines()]


def difference(project, before, after, env_before, env_after):
    shown = [{"before_header": project.compose, "after_header": project.compose, "before": before, "after": after}]
    if env_before != env_after:
        masked = (
            [f"{name}=(not shown)\n" for name in names(env_before)],
            [f"{name}=(not shown{', changed' if name in names(env_before) else ''})\n" for name in names(env_after)],
        )
        headers = {"before_header": project.env, "after_header": project.env}
        shown.append({**headers, "before": "".join(masked[0]), "after": "".join(masked[1])})
    return shown


def containers(module):
    try:
        listing = _docker_api.DockerAPI(module.params["docker_socket"]).get("/containers/json", {"all": "1"})
    except _docker_api.DockerError as error:
        if not module.check_mode:
            module.fail_json(msg=str(error))
        return []
    found = _host.docker_containers(listing)
    return [container for container in found if container["project"] == module.params["project_name"]]


def main():
    module = AnsibleModule(
        argument_spec={
            "project_dir": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent", "restored"], "default": "present"},
            "definition": {"type": "dict", "default": {}},
            "project_name": {"type": "str", "default": "llmops-fleet"},
            "environment": {"type": "dict", "default": {}, "no_log": True},
            "stopped": {"type": "list", "elements": "str", "default": []},
            "absent": {"type": "list", "elements": "str", "default": []},
            "keep": {"type": "list", "elements": "str", "default": []},
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
        },
        supports_check_mode=True,
    )
    params = module.params
    project = Project(module)
    definition, env = wanted_state(project, params)
    current, env_before = project.parse(project.compose), project.read_text(project.env)
    before_text = project.read_text(project.compose)
    drift = current != definition or (definition is None and bool(before_text))
    result = {
        "services": list((definition or {}).get("services", {})),
        "changed_services": _compose.changed_services(current, definition),
        **_compose.actions(definition, found := containers(module), params["stopped"], params["absent"]),
        "containers": {container["service"]: container["name"] for container in found},
        "changed": drift or env != env_before,
    }
    for name in result["orphans"]:
        module.warn(f"service {name} runs, but fleet_services has it no more; list it with state: absent to remove it")
    after_text = project.dump(definition) if drift else before_text
    if result["changed"]:
        result["diff"] = difference(project, before_text, after_text, env_before, env)
    if result["changed"] and not module.check_mode:
        os.makedirs(project.directory, mode=0o755, exist_ok=True)
        project.write(project.env, env, 0o600)
        project.write(project.compose, after_text, 0o644)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
