# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.llmops.fleet.plugins.module_utils import (
    _compose,
    _container_toolkit,
    _docker_engine,
    _evidence,
    _nvidia_driver,
    _nvidia_plan,
    _plan,
    _preflight,
    _probes,
    _repository,
)
from ansible_collections.llmops.fleet.plugins.module_utils._spec import host_pattern
from ansible_collections.llmops.fleet.plugins.plugin_utils._filters import guarded

# The hosts of a play are what Ansible's main process evaluates, before it forks a worker for every task of every host.
# What it has imported, they have; else each of them compiles these modules anew, half of the work of a converged run.
FOR_WORKERS = (
    *(_compose, _container_toolkit, _docker_engine, _evidence, _nvidia_driver),
    *(_nvidia_plan, _plan, _preflight, _probes, _repository),
)


class FilterModule:
    def filters(self):
        return {"host_pattern": guarded(host_pattern)}
