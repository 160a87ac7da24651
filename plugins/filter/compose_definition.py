# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.llmops.fleet.plugins.module_utils._compose import compose_project


def filter_compose_definition(plan, secrets=None, docker_version=None):
    return compose_project(plan, secrets or {}, docker_version) or {}


class FilterModule:
    def filters(self):
        return {"compose_definition": filter_compose_definition}
