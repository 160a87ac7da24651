# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests against the running sandbox: real hosts over SSH, real Docker, a real registry, real vLLM on the CPU.

`scripts/test sandbox` makes the sandbox and deploys site.yml on it before; they do not do it themselves.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
INVENTORY = ROOT / "inventories/sandbox"
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


class Done:
    """A finished ansible-playbook."""

    def __init__(self, process):
        self.code, self.output = process.returncode, process.stdout + process.stderr
        self.recap = {
            host: {"changed": int(changed), "unreachable": int(unreachable), "failed": int(failed)}
            for host, _ok, changed, unreachable, failed in RECAP.findall(process.stdout)
        }

    def lines_with(self, text):
        return [line.strip() for line in self.output.splitlines() if text in line]


class Fleet:
    """The sandbox as a user drives it: inventories, playbooks and a look at the hosts."""

    def __init__(self, reports):
        self.reports = reports
        self.variables = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["all"]["vars"]
        hosts = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["sandbox"]["hosts"]
        self.hosts = {name: host["ansible_host"] for name, host in hosts.items()}

    def run(self, command, *arguments, cwd=ROOT, **env):
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **env}
        environment.pop("ANSIBLE_COLLECTIONS_PATH", None) if "ANSIBLE_COLLECTIONS_PATH" not in env else None
        full = [str(BIN / command), *map(str, arguments)]
        return subprocess.run(full, cwd=cwd, env=environment, capture_output=True, text=True, check=False)

    def playbook(self, name, *arguments, inventory=INVENTORY, **keywords):
        reports = json.dumps({"fleet_reports_dir": str(self.reports)})
        return Done(self.run("ansible-playbook", "-i", inventory, name, "-e", reports, *arguments, **keywords))

    def site(self, *arguments, **keywords):
        return self.playbook("playbooks/site.yml", *arguments, **keywords)

    def on(self, host, command):
        """What a shell command prints on a host."""
        options = shlex.split(self.variables["ansible_ssh_common_args"])
        key = self.variables["ansible_ssh_private_key_file"]
        full = ["ssh", "-i", key, *options, f"root@{self.hosts[host]}", command]
        done = subprocess.run(full, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def state(self, host):
        """What must stay as it is: containers, the compose project, models, Docker's configuration."""
        return self.on(
            host,
            "docker inspect -f '{{.Name}} {{.Id}} {{.State.StartedAt}}' $(docker ps -aq) | sort; "
            "cat /opt/llmops-fleet/compose/compose.yaml | sha256sum; "
            "ls /data/models /data/models/*; sha256sum /etc/docker/daemon.json",
        )

    def hub(self, **faults):
        body = json.dumps(faults or {"reset": True}).encode()
        request = urllib.request.Request(f"{self.variables['sandbox_hub_url']}/_ctl", data=body, method="POST")
        urllib.request.urlopen(request, timeout=10).close()


@pytest.fixture(scope="session")
def fleet(tmp_path_factory):
    if not (INVENTORY / "hosts.yml").exists():
        pytest.fail("no sandbox: run scripts/test sandbox, or make demo before these tests", pytrace=False)
    return Fleet(tmp_path_factory.mktemp("reports"))


@pytest.fixture
def variant(tmp_path):
    """The sandbox's inventory with its data changed by a function: variant(change) -> path."""

    def make(change):
        folder = tmp_path / "inventory"
        shutil.copytree(INVENTORY, folder)
        path = folder / "group_vars/all/fleet.yml"
        data = yaml.safe_load(path.read_text())
        change(data)
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        return folder

    return make


@pytest.fixture
def standin(fleet):
    """A service on node2 that a stand-in for an engine carries: fast to start, made to fail on demand."""

    def service(name="extra", **change):
        return {
            "name": name,
            "task": "chat",
            "model": "minilm",
            "hosts": "node2",
            "gpus": 0,
            "port": 8190,
            "image": fleet.variables["sandbox_standin_image"],
            "start_timeout": 60,
            **change,
        }

    return service
