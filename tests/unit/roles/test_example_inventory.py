# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example that users copy is valid and fits the hosts that it speaks of: two GPUs each."""

from __future__ import annotations

from pathlib import Path

import yaml
from ansible_collections.llmops.fleet.plugins.module_utils._plan import host_plan
from ansible_collections.llmops.fleet.plugins.module_utils._spec import Settings, host_services, parse_fleet

ROOT = Path(__file__).resolve().parents[3]


def test_the_example_is_valid_and_fits_two_gpus():
    data = yaml.safe_load((ROOT / "inventories/example/group_vars/all/fleet.yml").read_text())
    hosts = yaml.safe_load((ROOT / "inventories/example/hosts.yml").read_text())["all"]["children"]["gpu_hosts"][
        "hosts"
    ]
    images = yaml.safe_load((ROOT / "roles/validate_inventory/vars/main.yml").read_text())[
        "__validate_inventory_images"
    ]
    groups = {"gpu_hosts": list(hosts)}
    fleet = parse_fleet(data["fleet_models"], data["fleet_services"], groups.get, Settings(images=images))
    gpus = [{"index": i, "uuid": f"GPU-{i}", "name": "any", "memory_total": 81559} for i in range(2)]
    models = {model["name"]: {"path": "/data/models/x"} for model in data["fleet_models"]}
    for host in hosts:
        plan = host_plan(host_services(fleet, host), {"gpus": gpus}, models)
        assert [len(service["gpus"]) for service in plan["services"]] == [2, 1, 1]
