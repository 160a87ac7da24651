# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as a user installs it: built, installed into an empty folder, used by FQCN from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def command(*arguments, cwd, collections, check=True):
    env = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    config = Path(collections) / "ansible.cfg"
    config.write_text("[defaults]\n")  # this checkout's and the user's own are not to be found
    env |= {"ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_CONFIG": str(config), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(
        [BIN / arguments[0], *arguments[1:]], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    out = tmp_path_factory.mktemp("artifact")
    command("ansible-galaxy", "collection", "build", "--output-path", out, cwd=ROOT, collections=out)
    return next(out.glob("llmops-fleet-*.tar.gz"))


@pytest.fixture(scope="module")
def installed(artifact, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    # --no-deps: community.docker comes with the ansible package of PyPI
    arguments = ("collection", "install", "--no-deps", "-p", folder, artifact)
    command("ansible-galaxy", *arguments, cwd=folder, collections=folder)
    return folder


def test_artifact_holds_the_collection_and_nothing_of_the_workshop(artifact):
    with tarfile.open(artifact) as archive:
        files = {name for name in archive.getnames() if archive.getmember(name).isfile()}
    for part in (
        "plugins/modules",
        "plugins/module_utils",
        "plugins/filter",
        "roles",
        "playbooks",
        "meta",
        "inventories/example",
    ):
        expected = {str(p.relative_to(ROOT)) for p in (ROOT / part).rglob("*") if p.is_file() and p.suffix != ".pyc"}
        assert expected <= files, expected - files
    assert {"README.md", "LICENSE", "CHANGELOG.md", "meta/runtime.yml"} <= files
    workshop = ("tests/", "molecule/", "benchmarks/", ".", "collections/", "scripts/", "inventories/sandbox/")
    assert [name for name in files if name.startswith(workshop)] == []


def test_documentation_of_every_plugin_and_role(installed):
    for path in sorted((ROOT / "plugins/modules").glob("*.py")):
        command("ansible-doc", f"llmops.fleet.{path.stem}", cwd=installed, collections=installed)
    for path in sorted((ROOT / "plugins/filter").glob("*.yml")):
        command("ansible-doc", "-t", "filter", f"llmops.fleet.{path.stem}", cwd=installed, collections=installed)
    for path in sorted((ROOT / "roles").iterdir()):
        command("ansible-doc", "-t", "role", f"llmops.fleet.{path.name}", cwd=installed, collections=installed)


@pytest.mark.parametrize("playbook", sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml")))
def test_playbooks_by_fqcn(installed, playbook):
    arguments = ("-i", ROOT / "inventories/example", f"llmops.fleet.{playbook}", "--syntax-check")
    command("ansible-playbook", *arguments, cwd=installed, collections=installed)


def test_an_inventory_is_validated_before_any_host_is_touched(installed, tmp_path):
    # 192.0.2.0/24 is reserved for documentation: a connection to it would hang, not fail at once
    (tmp_path / "hosts.yml").write_text("all: {hosts: {gpu1: {ansible_host: 192.0.2.1}}}\n")
    services = '{"fleet_services": [{"name": "chat", "task": "chat", "model": "gte", "hosts": "gpu1"}]}'
    arguments = ("-i", tmp_path / "hosts.yml", "llmops.fleet.site", "-e", services)
    done = command("ansible-playbook", *arguments, cwd=installed, collections=installed, check=False)
    assert done.returncode != 0
    assert 'fleet_services[0].model: no model named "gte"; known: none' in done.stdout + done.stderr
    assert "UNREACHABLE" not in done.stdout
