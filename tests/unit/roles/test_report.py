# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of inference_service where the run lost a host before its services were probed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SERVICE = {"name": "chat", "task": "chat", "hosts": ["whole", "lost"], "state": "present"}
PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"ansible.builtin.fail": {"msg": "gone"}, "when": "inventory_hostname == 'lost'"},
            {"ansible.builtin.set_fact": {"inference_service_evidence": []}},
            {"ansible.builtin.include_role": {"name": "llmops.fleet.inference_service", "tasks_from": "report"}},
        ],
    }
]


def test_a_host_that_was_lost_does_not_pass_for_verified(tmp_path):
    variables = {"validate_inventory_fleet": {"services": [SERVICE]}, "fleet_reports_dir": str(tmp_path / "reports")}
    (tmp_path / "play.yml").write_text(json.dumps(PLAY))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "whole,lost,", "-c", "local"]
    command += ["-e", json.dumps(variables), str(tmp_path / "play.yml")]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 2, done.stdout
    report = json.loads((tmp_path / "reports" / "evidence.json").read_text())
    (row,) = report["evidence"]
    assert not report["ok"] and (row["host"], row["service"], row["ok"]) == ("lost", "chat", False)
    assert "the run ended for this host before its services were probed" in " ".join(done.stdout.split())
