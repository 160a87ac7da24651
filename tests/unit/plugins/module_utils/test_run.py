# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.llmops.fleet.plugins.module_utils._run import ProgramError, run_program


def test_status_and_both_streams():
    assert run_program(["sh", "-c", "echo out; echo err >&2; exit 3"], 10) == (3, "out\nerr\n")


def test_programs_speak_the_c_locale():
    assert run_program(["sh", "-c", "echo $LC_ALL"], 10) == (0, "C\n")


def test_a_program_that_hangs_is_not_waited_for():
    with pytest.raises(ProgramError, match=r"^sleep gave no answer within 0\.1 s$"):
        run_program(["sleep", "60"], 0.1)


def test_a_program_that_is_not_there():
    with pytest.raises(ProgramError, match=r"^/nonexistent does not run: No such file or directory$"):
        run_program(["/nonexistent"], 1)
