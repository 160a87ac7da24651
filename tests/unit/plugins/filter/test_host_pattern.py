# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[4]
PACKAGE = "ansible_collections.llmops.fleet.plugins"
FILTERS = sorted((ROOT / "plugins/filter").glob("*.py"))
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))


def test_it_imports_what_every_other_filter_needs():
    code = f"""
import importlib, sys
importlib.import_module("{PACKAGE}.filter.host_pattern")
print(*(name.rpartition(".")[2] for name in sys.modules if name.startswith("{PACKAGE}.module_utils.")))
"""
    environment = {"PYTHONPATH": str(ROOT / "collections")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    needed = {name for path in FILTERS for name in re.findall(r"module_utils\.(\w+) import", path.read_text())}
    assert len(needed) > 5 and needed <= set(done.stdout.split())


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_playbooks_give_their_hosts_by_it(playbook):
    hosts = {play["hosts"] for play in yaml.safe_load(playbook.read_text()) if "hosts" in play}
    assert hosts == {"{{ fleet_hosts | default('all') | llmops.fleet.host_pattern }}"}
