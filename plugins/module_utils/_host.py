# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host prints about itself, as data.

Everything here takes text or decoded JSON and gives plain data; nothing reads a file. Junk gives
less data, never an exception: a host that prints nonsense is a finding, not a traceback.
"""

from __future__ import annotations

import csv
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.llmops.fleet.plugins.module_utils._compose import DEFINITION_LABEL

LISTEN_STATE = "0A"
DEFAULT_DATA_ROOT = "/var/lib/docker"

_HEALTH = re.compile(r"\((healthy|unhealthy|health: starting)\)")
_VERSION = re.compile(r"(?<![\w.])v?(\d+(?:\.\d+)+)")


def parse_os_release(text: str) -> dict[str, str]:
    """The four fields that choose packages, out of /etc/os-release; an absent field is ''."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.strip().partition("=")
        if separator and not key.startswith("#"):
            fields[key.strip()] = _unquote(value.strip())
    return {
        "id": fields.get("ID", "").lower(),
        "version_id": fields.get("VERSION_ID", ""),
        "codename": fields.get("VERSION_CODENAME", "") or fields.get("UBUNTU_CODENAME", ""),
        "pretty_name": fields.get("PRETTY_NAME", ""),
    }


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return re.sub(r"\\(.)", r"\1", value)


def parse_meminfo(text: str) -> dict[str, int]:
    """Total and available memory in bytes; 0 where /proc/meminfo does not say."""
    wanted = {"MemTotal": "total", "MemAvailable": "available"}
    result = {"total": 0, "available": 0}
    for line in text.splitlines():
        key, _separator, rest = line.partition(":")
        words = rest.split()
        if key in wanted and words and words[0].isdecimal() and words[0].isascii():
            result[wanted[key]] = int(words[0]) * 1024
    return result


def parse_proc_net_tcp(text: str) -> list[dict[str, Any]]:
    """Listening sockets of /proc/net/tcp or /proc/net/tcp6: address, port, inode."""
    sockets: list[dict[str, Any]] = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 10 or fields[3] != LISTEN_STATE:
            continue
        hex_address, _separator, hex_port = fields[1].partition(":")
        address = _kernel_address(hex_address)
        if address is None or not re.fullmatch(r"[0-9A-Fa-f]{4}", hex_port):
            continue
        sockets.append({"address": address, "port": int(hex_port, 16), "inode": fields[9]})
    return sockets


def _kernel_address(text: str) -> str | None:
    """The kernel prints addresses as 32-bit words in host order: little-endian on every supported arch."""
    if not re.fullmatch(r"[0-9A-Fa-f]{8}(?:[0-9A-Fa-f]{24})?", text):
        return None
    words = bytes.fromhex(text)
    raw = b"".join(words[start : start + 4][::-1] for start in range(0, len(words), 4))
    return canonical_address(str(ipaddress.ip_address(raw)))


def canonical_address(text: str) -> str:
    """One spelling for an address: no brackets, IPv4 out of ::ffff:a.b.c.d, localhost as 127.0.0.1."""
    text = text.strip().strip("[]")
    if text in ("", "*"):
        return "0.0.0.0"
    if text == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def parse_nvidia_smi_csv(text: str) -> list[dict[str, Any]]:
    """GPUs out of `nvidia-smi --query-gpu=... --format=csv`, whatever the order of its columns."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(_plain_lines(text))]
    header = next((row for row in rows if "index" in row and "uuid" in row), None)
    if header is None:
        return []
    names = [re.sub(r"\s*\[.*\]$", "", cell) for cell in header]
    gpus: list[dict[str, Any]] = []
    for row in rows[rows.index(header) + 1 :]:
        cells = dict(zip(names, row))
        index = _leading_int(cells.get("index", ""))
        if index is None or not cells.get("uuid", "").startswith("GPU-"):
            continue
        gpus.append(
            {
                "index": index,
                "uuid": cells["uuid"],
                "name": cells.get("name", ""),
                "memory_total": _leading_int(cells.get("memory.total", "")),
            }
        )
    return gpus


def _plain_lines(text: str) -> list[str]:
    """csv refuses NUL bytes and lone carriage returns; neither belongs in this output."""
    return [line for line in re.sub(r"[\0\r]", "", text).split("\n") if line.strip()]


def _leading_int(text: str) -> int | None:
    match = re.match(r"[0-9]+", text)
    return int(match.group()[:18]) if match else None


def parse_version(text: str) -> str | None:
    """The first dotted version in what a program printed about itself."""
    match = _VERSION.search(text)
    return match.group(1) if match else None


def parse_json_object(text: str) -> tuple[dict[str, Any] | None, str | None]:
    """A configuration file that must hold one JSON object: (value, None) or (None, why not). Empty counts as {}."""
    if not text.strip():
        return {}, None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return None, f"line {error.lineno} column {error.colno}: {error.msg}"
    except (ValueError, RecursionError) as error:
        return None, f"cannot be read as JSON: {error}"
    if not isinstance(value, dict):
        return None, f"holds {_json_kind(value)}, not an object"
    return value, None


def _json_kind(value: object) -> str:
    kinds = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


def docker_containers(listing: object) -> list[dict[str, Any]]:
    """GET /containers/json?all=1 as the fleet looks at it."""
    return [_container(entry) for entry in _dicts(listing)]


def _container(entry: Mapping[str, Any]) -> dict[str, Any]:
    labels = _mapping(entry.get("Labels"))
    names = entry.get("Names")
    first_name = names[0] if isinstance(names, list) and names else ""
    return {
        "name": str(first_name).lstrip("/"),
        "id": str(entry.get("Id") or ""),
        "project": labels.get("com.docker.compose.project"),
        "service": labels.get("com.docker.compose.service"),
        "state": str(entry.get("State") or "unknown"),
        "health": _health(entry),
        "image": str(entry.get("Image") or ""),
        "definition": labels.get(DEFINITION_LABEL),
        "ports": _published_ports(entry.get("Ports")),
    }


def _health(entry: Mapping[str, Any]) -> str | None:
    """Docker 29 says it in a field, older ones only inside `Status`: "Up 2 minutes (healthy)"."""
    stated = _mapping(entry.get("Health")).get("Status")
    if stated in ("healthy", "unhealthy", "starting"):
        return str(stated)
    match = _HEALTH.search(str(entry.get("Status") or ""))
    return match.group(1).replace("health: ", "") if match else None


def _published_ports(ports: object) -> list[dict[str, Any]]:
    published = {
        (canonical_address(str(port.get("IP") or "")), port["PublicPort"])
        for port in _dicts(ports)
        if isinstance(port.get("PublicPort"), int) and port.get("Type", "tcp") == "tcp"
    }
    return [{"address": address, "port": number} for address, number in sorted(published)]


def docker_image_names(listing: object) -> list[str]:
    """Every tag and digest of GET /images/json, sorted; what has no name has none here."""
    names: set[str] = set()
    for entry in _dicts(listing):
        for key in ("RepoTags", "RepoDigests"):
            values = entry.get(key)
            if isinstance(values, list):
                names.update(name for name in values if isinstance(name, str) and "<none>" not in name)
    return sorted(names)


def docker_package(dpkg_status: str) -> str | None:
    """Which package brought the engine, out of /var/lib/dpkg/status."""
    for package in ("docker-ce", "docker.io"):
        entry = re.search(rf"^Package: {re.escape(package)}\n(?:.+\n)*?Status: (.+)$", dpkg_status, re.MULTILINE)
        if entry and entry.group(1).split()[-1] in ("installed", "unpacked", "half-configured", "half-installed"):
            return package
    return None


def data_root(daemon_config: Mapping[str, Any] | None) -> str:
    """Where this Docker keeps images and containers."""
    configured = (daemon_config or {}).get("data-root")
    return configured if isinstance(configured, str) and configured.startswith("/") else DEFAULT_DATA_ROOT


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> Iterable[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
