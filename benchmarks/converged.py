#!/usr/bin/env python3
# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A converged run of site.yml over `ansible all -m ping` on the same hosts. README.md says what it stands for.

usage: converged.py [--hosts 8] [--runs 5] [--keep]
Makes a sandbox with that many hosts, converges it with stand-in engines, measures both commands in turn, reports the
medians and their ratio, and removes the sandbox.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from _record import BIN, INVENTORY, ROOT, record, run

STANDIN = '{"sandbox_engine_image": "{{ sandbox_standin_image }}"}'
SITE = (BIN / "ansible-playbook", "-i", INVENTORY, "playbooks/site.yml", "--skip-tags", "verify", "-e", STANDIN)
PING = (BIN / "ansible", "-i", INVENTORY, "all", "-m", "ansible.builtin.ping")


def recap(output: str) -> dict[str, int]:
    lines = output.partition("PLAY RECAP")[2].splitlines()
    return {line.split()[0]: int(line.partition("changed=")[2].split()[0]) for line in lines if "changed=" in line}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="leave the sandbox up")
    options = parser.parse_args()
    if (ROOT / INVENTORY / "hosts.yml").exists():
        sys.exit("there is a sandbox already, and this would change and remove it: run make demo-down first")
    run("scripts/setup")
    try:
        run("scripts/sandbox", "up", str(options.hosts))
        measure(options.hosts, options.runs)
    finally:
        if not options.keep:
            run("scripts/sandbox", "down")


def measure(hosts: int, runs: int) -> None:
    run(*SITE)
    changed = recap(run(*SITE)[1])
    if len(changed) != hosts or any(changed.values()):
        sys.exit(f"not converged on {hosts} hosts: {changed}")
    pings, sites = [], []
    for _turn in range(runs):
        pings.append(run(*PING)[0])
        sites.append(run(*SITE)[0])
    ping, site = statistics.median(pings), statistics.median(sites)
    record(
        "converged",
        f"python benchmarks/converged.py --hosts {hosts} --runs {runs}",
        {
            "hosts": hosts,
            "services": 3 * hosts,
            "engines": "stand-in image; probes left out (--skip-tags verify)",
            "ping_seconds": [round(value, 2) for value in pings],
            "site_seconds": [round(value, 2) for value in sites],
            "ratio_of_medians": round(site / ping, 2),
            "aim": "at most 6",
        },
    )


if __name__ == "__main__":
    main()
