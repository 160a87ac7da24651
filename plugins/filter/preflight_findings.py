# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.llmops.fleet.plugins.module_utils._preflight import fleet_findings


def preflight_findings(observed, services, addresses=None, mode="enforce", min_free_docker=0):
    return fleet_findings(observed, services, addresses, mode, min_free_docker)


class FilterModule:
    def filters(self):
        return {"preflight_findings": preflight_findings}
