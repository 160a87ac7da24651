#!/usr/bin/env python3
# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role docker_engine beside geerlingguy.docker: first installation and converged run. README.md says what it is.

usage: docker_engine.py --role-path FOLDER [--rounds 2] [--runs 3]
FOLDER holds geerlingguy.docker (ansible-galaxy role install geerlingguy.docker -p FOLDER). Each first installation is
on hosts that were made for it; both roles take the same packages from the same mirror and write the same daemon.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from _record import BIN, ROOT, record, run

HOSTS = ".sandbox/mirrors/hosts.yml"
MOLECULE = (BIN / "molecule", "-c", "molecule/config.yml")
CASES = {"SANDBOX_CASES": str(ROOT / "benchmarks/docker_engine_hosts.yml")}
DAEMON = {"live-restore": True, "log-driver": "json-file", "log-opts": {"max-size": "100m", "max-file": "3"}}
PACKAGES = ["docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin"]
OURS, THEIRS = "llmops.fleet.docker_engine", "geerlingguy.docker"
PLAYS = {
    OURS: {"hosts": "all", "gather_facts": False, "roles": [OURS]},
    THEIRS: {
        "hosts": "all",
        "gather_facts": True,  # it decides by them; ours looks at the host itself
        "roles": [THEIRS],
        "vars": {
            "docker_repo_url": "{{ docker_engine_mirror_urls.tuna }}/linux",
            "docker_packages": PACKAGES,
            "docker_daemon_options": DAEMON,
        },
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role-path", type=Path, default=Path("roles-to-compare"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if not (options.role_path / THEIRS / "tasks/main.yml").exists():
        print(
            f"skipped: no {THEIRS} in {options.role_path}: ansible-galaxy role install {THEIRS} -p {options.role_path}"
        )
        return
    run("scripts/setup")
    first: dict[str, list[float]] = {OURS: [], THEIRS: []}
    converged: dict[str, list[float]] = {OURS: [], THEIRS: []}
    try:
        for turn in range(options.rounds):
            # the second round the other way round
            for role in (OURS, THEIRS)[:: -1 if turn % 2 else 1]:
                run(*MOLECULE, "create", "-s", "docker_engine_mirrors", **CASES)
                first[role].append(play(role, options.role_path))
                converged[role] += [play(role, options.role_path, changed=False) for _turn in range(options.runs)]
                run(*MOLECULE, "destroy", "-s", "docker_engine_mirrors", **CASES)
    finally:
        run(*MOLECULE, "destroy", "-s", "docker_engine_mirrors", check=False, **CASES)
        run("scripts/sandbox", "down")
    ratios = {
        f"{name}_ratio": round(statistics.median(seconds[OURS]) / statistics.median(seconds[THEIRS]), 2)
        for name, seconds in (("first", first), ("converged", converged))
    }
    rounded = {
        f"{name}_seconds": {role: [round(value, 2) for value in values] for role, values in seconds.items()}
        for name, seconds in (("first", first), ("converged", converged))
    }
    command = f"python benchmarks/docker_engine.py --role-path FOLDER --rounds {options.rounds} --runs {options.runs}"
    record("docker_engine", command, {"hosts": "4 bare Debian 13 hosts in containers", **rounded, **ratios})


def play(role: str, role_path: Path, changed: bool = True) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as book:
        json.dump([PLAYS[role]], book)
        book.flush()
        roles = f"{ROOT}/roles:{role_path.resolve()}"
        seconds, output = run(BIN / "ansible-playbook", "-i", HOSTS, book.name, ANSIBLE_ROLES_PATH=roles)
    if not changed and "changed=0" not in output.partition("PLAY RECAP")[2]:
        sys.exit(f"{role} does not converge:\n{output[-1500:]}")
    return seconds


if __name__ == "__main__":
    main()
