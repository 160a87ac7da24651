# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.module_utils import _internal


@pytest.fixture(autouse=True)
def on_a_managed_host(monkeypatch):
    """Ansible takes the process for a controller once a filter was imported, and then prints a module's warnings."""
    monkeypatch.setattr(_internal, "is_controller", False)
