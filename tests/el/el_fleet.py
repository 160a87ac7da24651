# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that run in the roots of el_root.py, and the roles that Ansible runs on them.

All of the hosts are played at once, as a fleet is: EL 9 and EL 10 in one run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "fixtures" / "hosts"))

import gpu_hosts  # noqa: E402

H100 = "0000:00:06.0 vendor=0x10de device=0x2330 class=0x030200 driver="
SETTINGS = {
    "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"),
    "ANSIBLE_PIPELINING": "true",
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    "ANSIBLE_LOCALHOST_WARNING": "false",
}

FILES = (
    *("/etc/docker/daemon.json", "/etc/yum.repos.d/docker-ce.repo", "/etc/pki/rpm-gpg/RPM-GPG-KEY-docker"),
    *("/etc/yum.repos.d/llmops-fleet-nvidia-cuda.repo", "/etc/yum.repos.d/llmops-fleet-nvidia-container-toolkit.repo"),
    "/etc/dnf/modules.d/nvidia-driver.module",
)
VOLATILE = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/cache", "/var/log", "/root/.ansible")


@dataclass(frozen=True)
class State:
    """What was on a host at one moment. Versions have their epoch and not the system's suffix."""

    rpms: Mapping[str, str]
    locks: Sequence[str]
    files: Mapping[str, str]
    units: Sequence[str]
    kernel_modules: Sequence[str]


class Host:
    """One running root. `folder` is empty and the host's own; `with Host(...) as host:`."""

    def __init__(self, name: str, system: str, root: Path, folder: Path, mirror: str) -> None:
        self.name, self.system, self.root, self.folder = name, system, root, folder
        self.laid = folder / "laid"
        for path in ("run/systemd/system", "run/cdi", "sys/fs/cgroup/system.slice", "sys/module"):
            (self.laid / path).mkdir(parents=True)
        (self.laid / "sys/fs/cgroup/cgroup.controllers").write_text("cpu memory\n")
        gpu_hosts.sysfs(self.laid, H100)
        (self.laid / "etc/dnf/vars").mkdir(parents=True)
        (self.laid / "etc/dnf/vars/llmops_mirror").write_text(f"{mirror}/system".removeprefix("http://"))
        self.settings: dict[str, Any] = {}  # variables of this host alone
        self.process: subprocess.Popen[str] | None = None
        self.pid = 0

    def __enter__(self) -> Host:
        words = [HERE / "el_host", self.root, self.laid]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            raise AssertionError(f"host {self.name} did not come up: what failed is above")
        parent = self.process.pid
        self.pid = int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])
        return self

    def __exit__(self, *exc: object) -> None:
        assert self.process is not None
        self.process.kill()  # which kills all that runs in the host
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def run(self, *command: str) -> tuple[int, str]:
        """Exit status and all output of a program of the host."""
        done = subprocess.run(
            [HERE / "el_enter", self.root, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env={**os.environ, "EL_PID": str(self.pid)},
        )
        return done.returncode, done.stdout

    def do(self, *command: str) -> str:
        """Output of a program that has to succeed."""
        status, output = self.run(*command)
        assert status == 0, f"{self.name}: {' '.join(command)} ended with {status}:\n{output}"
        return output

    def read(self, path: str) -> str:
        """The text of a file, '' where there is none."""
        status, output = self.run("cat", path)
        return output if status == 0 else ""

    def state(self) -> State:
        lines = self.do("rpm", "-qa", "--qf", "%{NAME} %{EVR}\\n").splitlines()
        locks = self.read("/etc/dnf/plugins/versionlock.list").splitlines()
        return State(
            rpms={
                name: version.partition(".el")[0] for name, _blank, version in (line.partition(" ") for line in lines)
            },
            locks=sorted(line.partition(".el")[0].removesuffix(".*") for line in locks if line and line[0] != "#"),
            files={path: self.read(path) for path in FILES},
            units=self.read("/run/systemctl.log").splitlines(),
            kernel_modules=self.read("/run/modules.log").splitlines(),
        )

    def listing(self) -> list[str]:
        """All files and links with size and time of change, but caches, logs and what is in memory."""
        left_out = [word for path in VOLATILE for word in ("-o", "-path", path)][1:]
        words = ["find", "/", "(", *left_out, ")", "-prune", "-o", "-not", "-type", "d"]
        # sqlite's shared memory, which a question touches
        return self.do(*words, "-not", "-name", "rpmdb.sqlite-*", "-printf", "%p %y %s %T@\\n").splitlines()

    def variables(self) -> dict[str, Any]:
        return {
            "ansible_host": str(self.root),
            "ansible_connection": "community.general.chroot",
            "ansible_chroot_exe": str(self.enter()),
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_user": "root",
            "ansible_el": self.system,
            **self.settings,
        }

    def enter(self) -> Path:
        path = self.folder / "enter"
        path.write_text(f'#!/bin/sh\nEL_PID={self.pid} exec "{HERE / "el_enter"}" "$@"\n')
        path.chmod(0o755)
        return path


class Play:
    """What one run of ansible-playbook said, by host."""

    def __init__(self, said: Mapping[str, Any], output: str) -> None:
        self.stats = said["stats"]
        self.output = output
        self.tasks = [task for play in said["plays"] for task in play["tasks"]]

    def results(self, host: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Name and result of every task that ran on a host, those of loops one by one."""
        for task in self.tasks:
            result = task["hosts"].get(host)
            if result:
                # dnf's module calls its sentences "results", too
                loop = [one for one in result.get("results", []) if isinstance(one, dict)]
                yield from ((task["task"]["name"], one) for one in loop or [result])

    def changed(self, host: str) -> list[str]:
        return [name.rpartition(" : ")[2] for name, result in self.results(host) if result.get("changed")]

    def messages(self, host: str) -> list[str]:
        found = [result["msg"] for _name, result in self.results(host) if result.get("msg")]
        return [message if isinstance(message, str) else "\n".join(map(str, message)) for message in found]

    def failure(self, host: str) -> str:
        """What ended the run on a host; a failure that was rescued did not."""
        failed = [result.get("msg", str(result)) for _name, result in self.results(host) if result.get("failed")]
        return failed[-1] if self.stats[host]["failures"] else ""


class Fleet:
    """Hosts by name, and what Ansible does to them."""

    def __init__(self, hosts: Sequence[Host], folder: Path, mirror: str, variables: Mapping[str, Any]) -> None:
        self.hosts = {host.name: host for host in hosts}
        self.folder, self.mirror, self.variables = folder, mirror, dict(variables)

    def play(self, tasks: Sequence[Mapping[str, Any]], *options: str, **variables: Any) -> Play:
        book = self.folder / "play.yml"
        book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": list(tasks)}]))
        return self.playbook(book, *options, **variables)

    def role(self, name: str, *options: str, entry: str = "main", **variables: Any) -> Play:
        role = {"ansible.builtin.include_role": {"name": f"llmops.fleet.{name}", "tasks_from": entry}}
        return self.play([role], *options, **variables)

    def playbook(self, book: Path, *options: str, limit: str = "all", **variables: Any) -> Play:
        inventory = self.folder / "hosts.json"
        hosts = {name: host.variables() for name, host in self.hosts.items()}
        inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": self.variables}}))
        words = [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, "--limit", limit, *options]
        words += ["-e", json.dumps(variables), book]
        environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        environment |= SETTINGS
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=REPOSITORY, env=environment)
        try:
            said = json.loads(done.stdout[done.stdout.index("{\n") :])
        except ValueError:
            raise AssertionError(f"no result from Ansible:\n{done.stdout}{done.stderr}") from None
        return Play(said, done.stdout)
