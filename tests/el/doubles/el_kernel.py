# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes Python in the root say that an EL kernel runs: the one whose package is installed first. For Python alone.

proves: that names of packages are made of an EL kernel's name, and that dnf finds these
does_not_prove: anything about that kernel
"""

import os

KERNEL = "@KERNEL@"
_uname = os.uname


def uname():
    real = _uname()
    return os.uname_result((real.sysname, real.nodename, KERNEL, real.version, real.machine))


os.uname = uname
