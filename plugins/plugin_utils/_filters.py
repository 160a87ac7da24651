# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filters share: a pure function of module_utils becomes a filter."""

from __future__ import annotations

import functools

from ansible.errors import AnsibleFilterError
from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError, SpecErrors


def guarded(function):
    """The function, its SpecError told as Ansible tells the errors of filters."""

    @functools.wraps(function)
    def filtered(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except (SpecError, SpecErrors) as error:
            raise AnsibleFilterError(str(error)) from error

    return filtered
