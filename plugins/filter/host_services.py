# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError
from ansible_collections.llmops.fleet.plugins.module_utils._spec import host_services


def filter_host_services(*args, **kwargs):
    try:
        return host_services(*args, **kwargs)
    except SpecError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self):
        return {"host_services": filter_host_services}
