# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a host before anything on it is changed.

A finding is a dict: host, item, problem, remedy and level (``enforce`` stops the run, ``warn`` is only shown).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError
from ansible_collections.llmops.fleet.plugins.module_utils._host import canonical_address
from ansible_collections.llmops.fleet.plugins.module_utils._plan import PROJECT, assign_gpus, needed_images
from ansible_collections.llmops.fleet.plugins.module_utils._spec import same_address

ENFORCE = "enforce"
WARN = "warn"

# The one place that says which systems the roles support: os-release's ID -> VERSION_ID -> name for people.
SUPPORTED_SYSTEMS: Mapping[str, Mapping[str, str]] = {
    "debian": {"12": "Debian 12", "13": "Debian 13"},
    "ubuntu": {"22.04": "Ubuntu 22.04", "24.04": "Ubuntu 24.04", "26.04": "Ubuntu 26.04"},
}
SUPPORTED_ARCHITECTURES = ("x86_64", "aarch64")
MINIMUM_PYTHON = (3, 9)
# Columns of the table with the widths at which they wrap.
COLUMNS = {"host": 30, "level": 7, "item": 20, "problem": 60, "remedy": 44}

Finding = Mapping[str, str]


def fleet_findings(
    observed: Mapping[str, Any],
    services: Sequence[Mapping[str, Any]],
    addresses: Mapping[str, str] | None = None,
    mode: str = ENFORCE,
    min_free_docker: int = 0,
) -> list[Finding]:
    """Findings of all hosts. ``observed`` holds what the `host_info` task registered, by host."""
    findings: list[Finding] = []
    for name, result in observed.items():
        wanted = [entry for entry in services if name in entry["hosts"]]
        # what no service names is none of our business
        if wanted:
            findings += host_findings(name, result, wanted, (addresses or {}).get(name) or name, min_free_docker)
    if mode == WARN:
        findings = [{**finding, "level": WARN} for finding in findings]
    return findings


def host_findings(
    name: str, result: object, services: Sequence[Mapping[str, Any]], address: str, min_free_docker: int
) -> list[Finding]:
    """Findings of one host, given its services of any state."""
    result = result if isinstance(result, Mapping) else {}
    if result.get("unreachable"):
        return [_unreachable(name, address, str(result.get("msg") or "no reason given"))]
    host = result.get("host")
    if not isinstance(host, Mapping):
        said = [str(result.get(key) or "").strip().rstrip(".") for key in ("msg", "module_stderr")]
        return [_unobserved(name, ": ".join(filter(None, said)) or "host_info gave no result")]
    present = [service for service in services if service["state"] == "present"]
    checks = [
        _system(host),
        _python(host),
        _daemon_config(host),
        *(_ports(host, present)),
        _gpus(host, services),
        _docker_disk(host, present, min_free_docker),
        *(_unreadable(host)),
    ]
    return [{"host": name, "level": ENFORCE, **check} for check in checks if check]


def _finding(item: str, problem: str, remedy: str) -> dict[str, str]:
    return {"item": item, "problem": problem, "remedy": remedy}


def _unreachable(name: str, address: str, reason: str) -> Finding:
    reason = re.sub(r"^(?:Task failed: |Failed to connect to the host via ssh: |ssh: )+", "", " ".join(reason.split()))
    return {
        "host": name,
        "level": ENFORCE,
        "item": "connection",
        "problem": f"unreachable over SSH at {address}: {reason[:200].rstrip('.')}",
        "remedy": "fix it, take it out of the inventory or run with --limit",
    }


def _unobserved(name: str, reason: str) -> Finding:
    reason = re.sub(r"^Task failed: ", "", " ".join(reason.split()))
    return {
        "host": name,
        "level": ENFORCE,
        "item": "observation",
        "problem": f"cannot be observed: {reason.rstrip('.')[:300]}",
        "remedy": "hosts need Python 3.9 or newer and root (ansible_become, or log in as root)",
    }


def _system(host: Mapping[str, Any]) -> dict[str, str] | None:
    system = host["os"]
    versions = SUPPORTED_SYSTEMS.get(system["id"], {})
    if system["version_id"] not in versions:
        known = ", ".join(label for family in SUPPORTED_SYSTEMS.values() for label in family.values())
        name = system["pretty_name"] or f"{system['id']} {system['version_id']}".strip() or "an unknown system"
        return _finding("operating system", f"{name} is not supported", f"supported are {known}")
    if host["arch"] not in SUPPORTED_ARCHITECTURES:
        known = " and ".join(SUPPORTED_ARCHITECTURES)
        return _finding("architecture", f"{host['arch']} is not supported", f"supported are {known}")
    if host["service_manager"] != "systemd":
        return _finding("systemd", "systemd does not run this host", "use a host that was booted with systemd")
    return None


def _python(host: Mapping[str, Any]) -> dict[str, str] | None:
    numbers = tuple(int(number) for number in re.findall(r"\d+", host["python"])[:2])
    if numbers >= MINIMUM_PYTHON:
        return None
    wanted = ".".join(str(number) for number in MINIMUM_PYTHON)
    remedy = "set ansible_python_interpreter to a newer one"
    return _finding("Python", f"Python {host['python']} is older than {wanted}", remedy)


def _daemon_config(host: Mapping[str, Any]) -> dict[str, str] | None:
    problem = host["docker"]["daemon_config_error"]
    return _finding("daemon.json", problem, "correct the file or remove it") if problem else None


def _ports(host: Mapping[str, Any], services: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    ours = {
        (port["address"], port["port"])
        for container in host["docker"]["containers"]
        if container["project"] == PROJECT
        for port in container["ports"]
    }
    foreign = [entry for entry in host["listening"] if (entry["address"], entry["port"]) not in ours]
    findings = []
    for service in services:
        taken = [entry for entry in foreign if entry["port"] == service["port"] and _collide(service, entry)]
        if taken:
            findings.append(_port_finding(host, service, taken[0]))
    return findings


def _collide(service: Mapping[str, Any], listener: Mapping[str, Any]) -> bool:
    return same_address(canonical_address(service["listen"]), listener["address"])


def _port_finding(host: Mapping[str, Any], service: Mapping[str, Any], listener: Mapping[str, Any]) -> dict[str, str]:
    place = (listener["address"], listener["port"])
    containers = [
        entry["name"]
        for entry in host["docker"]["containers"]
        if place in {(port["address"], port["port"]) for port in entry["ports"]}
    ]
    owner = f"process {listener['process']}" if listener["process"] else "a process that cannot be seen"
    owner += f" (pid {listener['pid']})" if listener["pid"] else ""
    owner += f" for container {containers[0]}" if containers else ""
    return _finding(
        f"port {service['port']}",
        f"service {service['name']}: port {service['port']} is taken on {listener['address']} by {owner}",
        "stop that process or give the service another port",
    )


def _gpus(host: Mapping[str, Any], services: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """All services of the host together, as the planner will assign them."""
    try:
        assign_gpus(services, host["gpus"])
    except SpecError as error:
        why = f" ({host['gpu_error']})" if host["gpu_error"] else ""
        return _finding(
            "GPUs", f"{error}{why}", "check nvidia-smi on the host, or the services' gpus, gpu_share and hosts"
        )
    return None


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _docker_disk(
    host: Mapping[str, Any], services: Sequence[Mapping[str, Any]], min_free: int
) -> dict[str, str] | None:
    """Room for images matters only while there are images to pull."""
    docker = host["docker"]
    disk = host["disks"].get(docker["data_root"])
    to_pull = needed_images(services, docker["images"])
    if disk is None or not to_pull or disk["free"] >= min_free:
        return None
    problem = (
        f"{docker['data_root']} (Docker's data root) has {_gib(disk['free'])} free, "
        f"wanted are {_gib(min_free)} for {_count(len(to_pull), 'image')} to pull"
    )
    remedy = "free space, or move it with docker_engine_data_root"
    return {**_finding("disk", problem, remedy), "level": WARN}


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _unreadable(host: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {**_finding(section, f"cannot be read: {reason}", "check that section on the host"), "level": WARN}
        for section, reason in sorted(host.get("errors", {}).items())
    ]


def finding_line(finding: Finding) -> str:
    return f"{finding['host']}: {finding['problem']}; {finding['remedy']}"


def findings_table(findings: Sequence[Finding]) -> list[str]:
    """Lines of a table; what is long goes on below itself in its column."""
    rows = [_wrapped_row({column: column for column in COLUMNS})] + [_wrapped_row(finding) for finding in findings]
    widths = [max(len(line) for row in rows for line in row[number]) for number in range(len(COLUMNS))]
    lines = ["  ".join("-" * width for width in widths)]
    for row in rows:
        height = max(len(cell) for cell in row)
        padded = [[*cell, *[""] * (height - len(cell))] for cell in row]
        lines += ["  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in zip(*padded)]
    return [lines[1], lines[0], *lines[2:]]


def _wrapped_row(finding: Finding) -> list[list[str]]:
    return [textwrap.wrap(finding[column], width) or [""] for column, width in COLUMNS.items()]
