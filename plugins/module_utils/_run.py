# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a program that may hang for good."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence


class ProgramError(Exception):
    """A program could not be run, or gave no answer in time."""


def run_program(args: Sequence[str], timeout: float) -> tuple[int, str]:
    """Exit status and all output.

    A program that hangs in the kernel (nvidia-smi over a sick driver) cannot be waited for, not even after it was
    killed; ``AnsibleModule.run_command`` and ``subprocess.run`` would wait. Here it is killed and left.
    """
    try:
        process = subprocess.Popen(
            args,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise ProgramError(f"{args[0]} does not run: {error.strerror or error}") from error
    try:
        output = process.communicate(timeout=timeout)[0]
    except subprocess.TimeoutExpired as error:
        process.kill()
        raise ProgramError(f"{args[0]} gave no answer within {timeout:g} s") from error
    return process.returncode, output.decode(errors="replace")
