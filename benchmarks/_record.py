# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What benchmarks share: run a command, record a result."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
INVENTORY = "inventories/sandbox"


def run(*command: str | Path, check: bool = True, **env: str) -> tuple[float, str]:
    """Seconds and standard output of a command run from the checkout's root."""
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "PATH": f"{BIN}:{os.environ['PATH']}", **env}
    begun = time.monotonic()
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - begun
    if check and done.returncode:
        sys.exit(
            f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-2000:]}"
        )
    return seconds, done.stdout


def record(name: str, command: str, result: dict[str, Any]) -> None:
    """Print a result and keep it in results/."""
    full = {
        "benchmark": name,
        "command": command,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": {"cpus": os.cpu_count(), "architecture": platform.machine(), "system": platform.system()},
        "versions": {"python": platform.python_version(), "ansible-core": version("ansible-core")},
        **result,
    }
    text = json.dumps(full, indent=2) + "\n"
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    path.write_text(text, encoding="utf-8")
    print(text)
