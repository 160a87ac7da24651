#!/usr/bin/python
# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Observe all of a host that the fleet's roles decide on
version_added: 0.1.0
description:
  - Gathers in one call what the roles of this collection compare with what they want, so that a host that is as it
    should be costs one task. Operating system, GPUs, disks, listening ports, Docker and its containers, the models.
  - Talks to Docker through its socket, runs C(nvidia-smi) only where it is found, and calls no package manager.
  - A part that cannot be read leaves a text in RV(host.errors) or in its own section. It never fails the module.
attributes:
  check_mode:
    support: full
    description: It only observes, so check mode changes nothing about it.
  diff_mode:
    support: none
    description: It changes nothing, so there is nothing to show.
options:
  models_dir:
    description: Folder of the model store.
    type: path
    default: /data/models
  models:
    description:
      - Models whose state is wanted, each as the filter P(llmops.fleet.host_models#filter) gives it
        (V(name), V(source), V(repo), V(revision) and so on).
    type: list
    elements: dict
    default: []
  disk_paths:
    description:
      - Further paths whose file system's free space is wanted.
      - Docker's data root and O(models_dir) are always looked at.
      - Of a path that does not exist, the nearest existing parent is looked at.
    type: list
    elements: path
    default: []
  state_dir:
    description: Folder of this collection's own state on the host.
    type: path
    default: /opt/llmops-fleet
  root:
    description:
      - Folder that holds the host's file system, V(/) on a host. Tests point it at a tree with recorded files.
      - The kernel, the CPU count and the Python packages are always those of the running system.
    type: path
    default: /
author:
  - llmops.fleet contributors (@llmops)
"""

EXAMPLES = r"""
- name: Observe the host
  llmops.fleet.host_info:
    models_dir: /data/models
    models:
      - name: qwen3-32b
        source: modelscope
        repo: Qwen/Qwen3-32B
        revision: v1.0.2
  become: true
  register: observed

- name: Show what each GPU is
  ansible.builtin.debug:
    msg: "{{ observed.host.gpus | map(attribute='name') }}"
"""

RETURN = r"""
host:
  description: The host as it is now.
  returned: always
  type: dict
  contains:
    os:
      description: V(id), V(version_id), V(codename) and V(pretty_name) out of C(/etc/os-release).
      type: dict
      returned: always
      sample: {id: debian, version_id: "13", codename: trixie, pretty_name: Debian GNU/Linux 13 (trixie)}
    arch:
      description: Machine architecture.
      type: str
      returned: always
      sample: x86_64
    kernel:
      description: Release of the running kernel.
      type: str
      returned: always
    python:
      description: Version of the Python that runs modules here.
      type: str
      returned: always
      sample: 3.13.5
    service_manager:
      description: V(systemd) or V(other).
      type: str
      returned: always
    cgroup_version:
      description: V(1) or V(2).
      type: int
      returned: always
    cpus:
      description: Number of CPUs.
      type: int
      returned: always
    memory:
      description: V(total) and V(available) in bytes.
      type: dict
      returned: always
    gpus:
      description: One entry a GPU with V(index), V(uuid), V(name) and V(memory_total) in MiB. Empty without a driver.
      type: list
      elements: dict
      returned: always
    gpu_error:
      description: Why C(nvidia-smi) gave no GPUs though it is installed.
      type: str
      returned: always
    disks:
      description: By path, V(path_checked) (the nearest parent that exists), V(free) and V(total) in bytes.
      type: dict
      returned: always
    listening:
      description: TCP listeners, each with V(address), V(port), V(process) and V(pid).
      type: list
      elements: dict
      returned: always
    docker:
      description: >-
        The engine with V(installed), V(active), V(version), V(compose_version), V(package), V(error), V(data_root),
        V(daemon_config), V(daemon_config_error), V(daemon_config_owned), V(daemon_config_record), V(dropins),
        V(images) and V(containers).
      type: dict
      returned: always
    ca_certificates:
      description: SHA-256 by file name of each certificate in C(/usr/local/share/ca-certificates).
      type: dict
      returned: always
    python_packages:
      description: Whether V(requests), V(yaml) and V(apt) can be imported by the Python that runs modules here.
      type: dict
      returned: always
    tools:
      description: Whether the programs V(gpg) and V(update-ca-certificates) are there.
      type: dict
      returned: always
    store:
      description: V(venv_ready) and V(venv_digest) of the model store's virtual environment.
      type: dict
      returned: always
    models:
      description: State of each model of O(models) by its name.
      type: dict
      returned: always
    errors:
      description: What could not be read, by section.
      type: dict
      returned: always
"""

import hashlib
import importlib.util
import os
import platform
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.fleet.plugins.module_utils import _host
from ansible_collections.llmops.fleet.plugins.module_utils._docker_api import DEFAULT_SOCKET, DockerAPI, DockerError
from ansible_collections.llmops.fleet.plugins.module_utils._run import ProgramError, run_program
from ansible_collections.llmops.fleet.plugins.module_utils._store import model_status

BIN_DIRS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
COMPOSE_DIRS = (
    "/root/.docker/cli-plugins",
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
CA_DIR = "/usr/local/share/ca-certificates"
DAEMON_CONFIG = "/etc/docker/daemon.json"
DROPIN_DIR = "/etc/systemd/system/docker.service.d"
# A sick driver makes nvidia-smi take minutes; a healthy one without persistence mode up to 30 s.
NVIDIA_SMI_TIMEOUT = 120.0
COMPOSE_TIMEOUT = 20.0


class HostProbe:
    """Reads one host, or a tree that was recorded from one."""

    def __init__(self, root: str, state_dir: str, models_dir: str, smi_timeout: float = NVIDIA_SMI_TIMEOUT) -> None:
        self.root = root.rstrip("/")
        self.state_dir = state_dir
        self.models_dir = models_dir
        self.smi_timeout = smi_timeout
        self.errors: dict[str, str] = {}

    def observe(self, models: list[dict[str, Any]], disk_paths: list[str]) -> dict[str, Any]:
        docker = self.docker()
        paths = sorted({docker["data_root"], self.models_dir, *disk_paths})
        gpus, gpu_error = self.gpus()
        return {
            "os": _host.parse_os_release(self.read("/etc/os-release") or self.read("/usr/lib/os-release")),
            "arch": platform.machine(),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "service_manager": "systemd" if os.path.isdir(self.path("/run/systemd/system")) else "other",
            "cgroup_version": 2 if os.path.exists(self.path("/sys/fs/cgroup/cgroup.controllers")) else 1,
            "cpus": os.cpu_count() or 1,
            "memory": _host.parse_meminfo(self.read("/proc/meminfo")),
            "gpus": gpus,
            "gpu_error": gpu_error,
            "disks": self.guard("disks", {}, lambda: {path: self.disk(path) for path in paths}),
            "listening": self.guard("listening", [], self.listening),
            "docker": docker,
            "ca_certificates": self.guard("ca_certificates", {}, lambda: self.digests(CA_DIR, ".crt")),
            "python_packages": {name: importable(name) for name in ("requests", "yaml", "apt")},
            "tools": {name: self.find(name) is not None for name in ("gpg", "update-ca-certificates")},
            "store": self.guard("store", {"venv_ready": False, "venv_digest": None}, self.store),
            "models": self.guard("models", {}, lambda: self.models(models)),
            "errors": self.errors,
        }

    def path(self, path: str) -> str:
        return self.root + path

    def read(self, path: str) -> str:
        """The text of a file, '' where there is none; why it could not be read goes to the errors."""
        try:
            with open(self.path(path), encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            self.errors[path] = error.strerror or str(error)
            return ""

    def guard(self, section: str, default: Any, observe: Callable[[], Any]) -> Any:
        """One broken part must not hide the others, whatever broke it."""
        try:
            return observe()
        except Exception as error:
            self.errors[section] = f"{type(error).__name__}: {error}"
            return default

    def find(self, program: str) -> str | None:
        candidates = (self.path(f"{folder}/{program}") for folder in BIN_DIRS)
        return next((path for path in candidates if os.access(path, os.X_OK) and os.path.isfile(path)), None)

    def gpus(self) -> tuple[list[dict[str, Any]], str | None]:
        program = self.find("nvidia-smi")
        if program is None:
            return [], None
        query = [program, "--query-gpu=index,uuid,name,memory.total", "--format=csv"]
        try:
            status, output = run_program(query, self.smi_timeout)
        except ProgramError as error:
            return [], str(error)
        if status != 0:
            return [], f"nvidia-smi exits with {status}: {' '.join(output.split())[:300]}"
        return _host.parse_nvidia_smi_csv(output), None

    def disk(self, path: str) -> dict[str, Any]:
        checked = path
        while not os.path.exists(self.path(checked)) and checked != "/":
            checked = os.path.dirname(checked)
        stat = os.statvfs(self.path(checked))
        return {
            "path_checked": checked,
            "free": stat.f_bavail * stat.f_frsize,
            "total": stat.f_blocks * stat.f_frsize,
        }

    def listening(self) -> list[dict[str, Any]]:
        sockets = [
            socket for name in ("tcp", "tcp6") for socket in _host.parse_proc_net_tcp(self.read(f"/proc/net/{name}"))
        ]
        owners = self.socket_owners({socket["inode"] for socket in sockets})
        found = {}
        for socket in sockets:
            process, pid = owners.get(socket["inode"], (None, None))
            found[socket["address"], socket["port"], pid or 0] = {
                "address": socket["address"],
                "port": socket["port"],
                "process": process,
                "pid": pid,
            }
        return [found[key] for key in sorted(found)]

    def socket_owners(self, inodes: set[str]) -> dict[str, tuple[str | None, int | None]]:
        """The first process that holds each socket: a fork's parent comes before its children."""
        owners: dict[str, tuple[str | None, int | None]] = {}
        proc = self.path("/proc")
        for pid in sorted(int(name) for name in os.listdir(proc) if name.isdecimal()):
            if len(owners) == len(inodes):
                break
            try:
                links = [os.readlink(entry.path) for entry in os.scandir(f"{proc}/{pid}/fd")]
            except OSError:
                continue
            for link in links:
                inode = link[len("socket:[") : -1] if link.startswith("socket:[") else ""
                if inode in inodes and inode not in owners:
                    owners[inode] = (self.read(f"/proc/{pid}/comm").strip() or None, pid)
        return owners

    def docker(self) -> dict[str, Any]:
        config, config_error = self.daemon_config()
        record = _host.parse_json_object(self.read(f"{self.state_dir}/docker/daemon.owned.json"))[0] or {}
        values = record.get("values")
        docker: dict[str, Any] = {
            "installed": self.find("dockerd") is not None,
            "version": None,
            "compose_version": self.guard("compose", None, self.compose_version),
            "active": False,
            "error": None,
            "package": _host.docker_package(self.read("/var/lib/dpkg/status")),
            "data_root": _host.data_root(config),
            "daemon_config": config,
            "daemon_config_error": config_error,
            "daemon_config_owned": sorted(values) if isinstance(values, dict) else [],
            "daemon_config_record": values if isinstance(values, dict) else None,
            "dropins": self.guard("dropins", {}, lambda: self.digests(DROPIN_DIR, ".conf")),
            "images": [],
            "containers": [],
        }
        if docker["installed"] or os.path.exists(self.path(DEFAULT_SOCKET)):
            docker.update(self.guard("docker", {}, self.docker_engine))
        return docker

    def daemon_config(self) -> tuple[dict[str, Any] | None, str | None]:
        if not os.path.exists(self.path(DAEMON_CONFIG)):
            return None, None
        config, problem = _host.parse_json_object(self.read(DAEMON_CONFIG))
        return config, problem and f"{DAEMON_CONFIG} {problem}"

    def docker_engine(self) -> dict[str, Any]:
        api = DockerAPI(self.path(DEFAULT_SOCKET))
        try:
            api.ping()
            version = api.get("/version")
            return {
                "active": True,
                "version": version.get("Version"),
                "images": _host.docker_image_names(api.get("/images/json")),
                "containers": _host.docker_containers(api.get("/containers/json", {"all": "1"})),
            }
        except DockerError as error:
            return {"error": str(error)}

    def compose_version(self) -> str | None:
        """Asks the plugin itself: `docker compose version` would start two programs for the same answer."""
        for folder in COMPOSE_DIRS:
            plugin = self.path(f"{folder}/docker-compose")
            if os.access(plugin, os.X_OK):
                status, output = run_program([plugin, "version", "--short"], COMPOSE_TIMEOUT)
                return _host.parse_version(output) if status == 0 else None
        return None

    def digests(self, folder: str, suffix: str) -> dict[str, str]:
        if not os.path.isdir(self.path(folder)):
            return {}
        digests = {}
        for name in sorted(os.listdir(self.path(folder))):
            path = self.path(f"{folder}/{name}")
            if name.endswith(suffix) and os.path.isfile(path):
                with open(path, "rb") as stream:
                    digests[name] = hashlib.sha256(stream.read()).hexdigest()
        return digests

    def store(self) -> dict[str, Any]:
        venv = f"{self.state_dir}/venv"
        digest = self.read(f"{venv}/.llmops-digest").strip() or None
        return {
            "venv_ready": digest is not None and os.path.exists(self.path(f"{venv}/bin/python")),
            "venv_digest": digest,
        }

    def models(self, models: list[dict[str, Any]]) -> dict[str, Any]:
        return {model["name"]: model_status(self.path(self.models_dir), model) for model in models}


def importable(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "models_dir": {"type": "path", "default": "/data/models"},
            "models": {"type": "list", "elements": "dict", "default": []},
            "disk_paths": {"type": "list", "elements": "path", "default": []},
            "state_dir": {"type": "path", "default": "/opt/llmops-fleet"},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    probe = HostProbe(module.params["root"], module.params["state_dir"], module.params["models_dir"])
    module.exit_json(changed=False, host=probe.observe(module.params["models"], module.params["disk_paths"]))


if __name__ == "__main__":
    main()
