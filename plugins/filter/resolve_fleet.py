# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecErrors
from ansible_collections.llmops.fleet.plugins.module_utils._spec import Settings, parse_fleet


def host_resolver(groups):
    """Ansible's own pattern matching over ``groups``, as the lookup inventory_hostnames does it."""
    manager = InventoryManager(DataLoader(), parse=False)
    for group, hosts in groups.items():
        manager.add_group(group)
        for host in hosts:
            manager.add_host(host, group=group)
    return lambda pattern: [host.name for host in manager.get_hosts(pattern=pattern)]


def filter_resolve_fleet(services, models, groups, settings=None):
    try:
        return parse_fleet(models, services, host_resolver(groups), Settings(**(settings or {})))
    except SpecErrors as errors:
        raise AnsibleFilterError(str(errors)) from errors


def filter_fleet_errors(services, models, groups, settings=None):
    try:
        parse_fleet(models, services, host_resolver(groups), Settings(**(settings or {})))
    except SpecErrors as errors:
        return [str(error) for error in errors.errors]
    return []


class FilterModule:
    def filters(self):
        return {"resolve_fleet": filter_resolve_fleet, "fleet_errors": filter_fleet_errors}
