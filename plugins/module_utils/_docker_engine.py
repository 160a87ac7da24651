# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Docker on a host lacks, and what its daemon.json becomes.

daemon.json is shared with whoever else configures this Docker. A record of the values that are ours lies beside the
collection's state; with it a variable that is gone takes its key along, and nothing that others wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError
from ansible_collections.llmops.fleet.plugins.module_utils._repository import matches, mirror

DAEMON_CONFIG = "/etc/docker/daemon.json"
PROXY_DROPIN = "llmops-fleet-proxy.conf"
DISTRIBUTION = "distribution"
SOURCE = "docker.sources"
HOLD_MARK = "/etc/apt/apt.conf.d/52llmops-fleet-docker"
ENGINE = "docker-ce"
DISTRIBUTION_ENGINE = "docker.io"
COMPOSE = "docker-compose-plugin"
# The packages that carry the engine's own version; the others have versions of their own.
VERSIONED = (ENGINE, "docker-ce-cli")
# What the NVIDIA Container Toolkit may have in daemon.json. Which values, the role nvidia_container_toolkit says.
TOOLKIT_KEYS = (("runtimes", "nvidia"), ("features", "cdi"))
DEB_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_DOCKER_URI = re.compile(r"download\.docker\.com|/docker-ce(?:/|$)")
_ONE_LINE = re.compile(r"\s*deb(?:-src)?\s+(?:\[[^\]]*\]\s*)?(\S+)")
_URIS_FIELD = re.compile(r"^(URIs[ \t]*:)(.*\n?(?:(?:#.*\n)*[ \t].*(?:\n|\Z))*)", re.MULTILINE | re.IGNORECASE)
OFF = "# switched off by llmops.fleet: "
# As dnf's and apt's modules say it.
_NOT_FOUND = re.compile(r"No package (?:matching )?'?([^\s']+)'? (?:is )?available")

Reason = Mapping[str, str]
_NOTHING = object()


def plain(value: Any) -> Any:
    """A copy in plain containers: with those that Ansible hands to filters, copy.deepcopy copies all its variables."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(item) for item in value]
    return value


def drift(
    host: Mapping[str, Any],
    daemon_config: Mapping[str, Any],
    packages: Sequence[str] = (),
    ca_certificates: Mapping[str, str] | None = None,
    proxy_dropin: str = "",
    compose_min: str = "0",
    python_packages: Sequence[str] = (),
    version: str = "",
    upgrade: bool = False,
    hold: bool | None = None,
    users: Sequence[str] = (),
) -> list[Reason]:
    """Why the role has to act, one {part, problem} each; empty where all is as it should be.

    ``packages`` are Docker's own, ``ca_certificates`` maps file names to SHA-256, ``proxy_dropin`` is the SHA-256 of
    the wanted drop-in or '', ``hold`` None leaves holds alone.
    """
    docker = host["docker"]
    reasons = [("ca_certificates", problem) for problem in _ca_problems(host["ca_certificates"], ca_certificates or {})]
    reasons += [("engine", problem) for problem in _engine_problems(host, packages, compose_min, version, upgrade)]
    reasons += [
        ("python", f"{_interpreter(host)} cannot import {package}") for package in _not_imported(host, python_packages)
    ]
    if plan_daemon_config(docker, daemon_config)["drift"]:
        reasons.append(("daemon_config", f"{DAEMON_CONFIG} is not as wanted"))
    if docker["dropins"].get(PROXY_DROPIN, "") != proxy_dropin:
        reasons.append(("proxy", f"the proxy drop-in {PROXY_DROPIN} is not as wanted"))
    reasons += [("hold", problem) for problem in _hold_problems(host, packages, hold)]
    reasons += [("users", f"{user} is not in the group docker") for user in users if not _in_group(host, user)]
    if docker["installed"] and not docker["active"]:
        reasons.append(("service", docker["error"] or "Docker is not running"))
    return [{"part": part, "problem": problem} for part, problem in reasons]


def refusals(
    host: Mapping[str, Any],
    reasons: Sequence[Reason],
    version: str = "",
    users: Sequence[str] = (),
    python_packages: Sequence[str] = (),
) -> list[str]:
    """Lines to fail with before anything is changed, since the role could not bring about what is wanted.

    ``reasons`` are what `drift` gave for the same.
    """
    docker = host["docker"]
    engine = [reason["problem"] for reason in reasons if reason["part"] == "engine"]
    lines = []
    if docker["package"] == DISTRIBUTION_ENGINE and version:
        there = host["packages"].get(DISTRIBUTION_ENGINE) or "half installed"
        lines.append(
            f"docker_engine_version: {version} is asked for, which is a version of {ENGINE}, and the system's own "
            f"{DISTRIBUTION_ENGINE} ({there}) is there: leave docker_engine_version empty, or remove that Docker first "
            "(entry point remove of this role)"
        )
    elif engine and docker["installed"] and docker["package"] not in (ENGINE, DISTRIBUTION_ENGINE):
        lines.append(
            f"Docker is there but no package {ENGINE} or {DISTRIBUTION_ENGINE}: {'; '.join(engine)}. Correct that by "
            "hand, or remove that Docker so that the role can install its own"
        )
    lines += [
        f'docker_engine_users: there is no user "{user}" on this host: make that account, or take it out of the list'
        for user in users
        if host.get("users", {}).get(user, False) is None
    ]
    lacking = _not_imported(host, python_packages)
    if lacking and not host.get("python_packaged", True):
        lines.append(
            f"{_interpreter(host)} cannot import {', '.join(lacking)}, and the system's packages of that are for its "
            "own Python: set ansible_python_interpreter: /usr/bin/python3"
        )
    return lines


def _interpreter(host: Mapping[str, Any]) -> str:
    return host.get("python_interpreter") or "Python"


def _not_imported(host: Mapping[str, Any], packages: Sequence[str]) -> list[str]:
    return [package for package in packages if not host["python_packages"].get(package)]


def _in_group(host: Mapping[str, Any], user: str) -> bool:
    """As the host itself answers; without that, what /etc/group lists."""
    answer = host.get("users", {}).get(user, user in (host.get("groups", {}).get("docker") or ()))
    return answer is True


def _hold_problems(host: Mapping[str, Any], packages: Sequence[str], hold: bool | None) -> list[str]:
    """Only Docker's own packages are held; what a distribution brings moves with the distribution."""
    there = [name for name in packages if name in host.get("packages", {})]
    held = [name for name in there if name in host.get("holds", ())]
    marked = HOLD_MARK in host.get("apt", {}).get("files", {})
    if hold is None or not there or host["docker"]["package"] != ENGINE:
        return []
    if hold:
        loose = [name for name in there if name not in held]
        problems = [f"{', '.join(loose)} can be upgraded by accident"] if loose else []
        return problems or ([f"{HOLD_MARK} is missing"] if not marked and host["os"]["family"] == "debian" else [])
    return [f"{', '.join(held)} is still held"] if held and (marked or host["os"]["family"] == "redhat") else []


def _ca_problems(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    return [
        f"CA certificate {name} {'differs' if name in found else 'is missing'}"
        for name, digest in wanted.items()
        if found.get(name) != digest
    ]


def _engine_problems(
    host: Mapping[str, Any], packages: Sequence[str], compose_min: str, version: str, upgrade: bool
) -> list[str]:
    docker = host["docker"]
    problems = [] if docker["installed"] else ["Docker Engine is not installed"]
    problems += _compose_problem(docker, compose_min)
    # a run that was cut off between unpacking and configuring
    problems += [
        f"package {name} is only half installed"
        for name in host.get("packages_broken", ())
        if name in packages or name == DISTRIBUTION_ENGINE
    ]
    if docker["package"] == ENGINE:
        there = host["packages"].get(ENGINE)
        if there is not None and not _fits(there, version):
            problems.append(f"{ENGINE} {there} is not the wanted {version}")
        if upgrade:
            problems.append("an upgrade is asked for")
    elif version and docker["installed"]:
        problems.append(
            f"the wanted {version} is {ENGINE}'s, but {docker['package'] or 'no package'} brought this Docker"
        )
    return problems


def _compose_problem(docker: Mapping[str, Any], compose_min: str) -> list[str]:
    compose = docker["compose_version"]
    if not compose:
        return ["Docker's compose plugin is not installed"]
    older = version_tuple(compose) < version_tuple(compose_min)
    return [f"Docker's compose plugin {compose} is older than {compose_min}"] if older else []


def install_plan(
    host: Mapping[str, Any],
    facts: Mapping[str, Any],
    mirrors: Sequence[str],
    mirror_urls: Mapping[str, str],
    version: str = "",
    upgrade: bool = False,
) -> dict[str, Any]:
    """Where this host's Docker may come from and which packages it lacks.

    ``facts`` are the role's data: packages (Docker's), distribution_packages (by system) and compose_min.

    format: deb or rpm; system: id-version; origin: the package that brought Docker, or '';
    repositories: by mirror, as module package_mirror takes them; candidates: mirrors to try in order;
    distribution: whether the system's own packages are a source; distribution_packages: what they are called;
    wanted: packages to install with the version to ask for; installed: Docker's packages that are there;
    foreign_sources: what else apt would take Docker from, mixed where the file names other repositories, too.
    """
    rpm = host["os"]["family"] == "redhat"
    major = host["os"]["version_id"].split(".")[0]
    system = f"el-{major}" if rpm else f"{host['os']['id']}-{host['os']['version_id']}"
    origin = host["docker"]["package"]
    stop = list(mirrors).index(DISTRIBUTION) if DISTRIBUTION in mirrors else len(mirrors)
    # An engine stays with the kind of package that brought it: replacing one by the other would stop its containers.
    return {
        "format": "rpm" if rpm else "deb",
        "system": system,
        "origin": origin or "",
        "architecture": host["arch"] if rpm else DEB_ARCHITECTURES.get(host["arch"], host["arch"]),
        "repositories": {name: _repository(host, name, url, major, rpm) for name, url in mirror_urls.items()},
        "candidates": [] if origin == DISTRIBUTION_ENGINE else list(mirrors[:stop]),
        "distribution": origin == DISTRIBUTION_ENGINE
        or (DISTRIBUTION in mirrors and origin != "docker-ce" and not version),
        "distribution_packages": list(facts["distribution_packages"].get(system) or []),
        "wanted": _wanted_packages(host, facts, version, upgrade),
        "installed": [name for name in facts["packages"] if name in host["packages"]],
        "foreign_sources": _foreign_sources(host.get("apt", {}).get("sources", {})),
    }


def transaction(
    plan: Mapping[str, Any],
    parts: Sequence[str],
    mirror: str,
    versions: Mapping[str, str],
    python_packages: Sequence[str] = (),
    further: Sequence[str] = (),
) -> list[str]:
    """What one call of the package manager installs, in its own spelling.

    ``plan`` is what `install_plan` gave, ``parts`` are drift's, ``versions`` what the chosen mirror offers.
    ``further`` packages ride along where the engine is installed.
    """
    names: list[str] = []
    if "engine" in parts:
        sign = "-" if plan["format"] == "rpm" else "="
        pinned = [f"{name}{sign}{version}" for name, version in versions.items()]
        names = [*(plan["distribution_packages"] if mirror == DISTRIBUTION else pinned), *further]
    return names + (list(python_packages) if "python" in parts else [])


def locked(holds: Sequence[str], packages: Sequence[str], further: Sequence[str] = ()) -> list[str]:
    """dnf's version locks that stand in the way of a transaction. ``further`` may carry versions, as dnf takes them."""
    names = {*packages, *(re.sub(r"-(?:\d+:)?\d.*", "", name) for name in further)}
    return [name for name in holds if name in names]


def install_failure(result: Mapping[str, Any], beside: Sequence[str] = (), system: str = "") -> dict[str, str]:
    """What a package manager's module failed with: text, one line, and cause, '' where another mirror may help.

    ``beside`` are the packages of the transaction that do not come from a mirror of Docker.
    """
    said = [str(result.get("msg") or "no message"), *map(str, result.get("failures") or [])]
    said[0] = re.sub(r"(?s)^'/usr/bin/apt-get .*?' failed: ", "", said[0])
    text = " ".join("; ".join(said).split())
    missing = [name for name in _NOT_FOUND.findall("\n".join(said)) if name in beside]
    cause = ""
    if missing:
        cause = f"{', '.join(missing)}: in no repository of this host, and not for Docker's mirrors to have. "
        if any(name.startswith("kernel-modules-extra-") for name in missing):
            cause += (
                f"Docker needs it for the running kernel (xt_addrtype){f' on {system}' if system else ''}, and "
                "repositories keep newer kernels only: run `dnf upgrade kernel`, reboot, run again"
            )
        else:
            cause += "Enable the repository that has it, or make it reachable, and run again"
    return {"text": f"{text[:296]} ..." if len(text) > 300 else text, "cause": cause}


def _repository(host: Mapping[str, Any], name: str, url: str, major: str, rpm: bool) -> dict[str, str]:
    """Rocky and Alma use Docker's packages for CentOS: mirrors do not carry the tree for RHEL whole."""
    base = f"linux/{'centos' if rpm else host['os']['id']}"
    return mirror(name, url, f"{base}/{major}/{host['arch']}/stable" if rpm else base, f"{base}/gpg")


def _wanted_packages(host: Mapping[str, Any], facts: Mapping[str, Any], version: str, upgrade: bool) -> dict[str, str]:
    """What is there and fits is left alone, so that adding a plugin never moves the engine."""
    there = host["packages"]
    stale = list(host.get("packages_broken", ()))
    stale += [COMPOSE] if _compose_problem(host["docker"], facts["compose_min"]) else []
    change = upgrade or not _fits(there.get(ENGINE), version)
    return {
        name: version if name in VERSIONED else ""
        for name in facts["packages"]
        if change or name not in there or name in stale
    }


def _fits(installed: str | None, version: str) -> bool:
    return installed is not None and matches(version, installed)


def _foreign_sources(sources: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for name, source in sources.items():
        docker = [uri for uri in source["uris"] if _DOCKER_URI.search(uri)]
        if docker and name != SOURCE:
            folder = "/etc/apt" if name == "sources.list" else "/etc/apt/sources.list.d"
            found.append({"path": f"{folder}/{name}", "mixed": len(docker) < len(source["uris"])})
    return found


def without_docker(text: str, name: str) -> str:
    """A file of apt's sources that names other repositories, too: Docker's are switched off, the others stay.

    By the file's name one stanza (.sources) or one line holds a repository.
    """
    if not name.endswith(".sources"):
        return "".join(f"{OFF}{line}" if _is_docker_line(line) else line for line in text.splitlines(keepends=True))
    # what stands between the stanzas is kept
    return "".join(_stanza_without_docker(part) for part in re.split(r"(\n(?:[ \t]*\n)+)", text))


def _is_docker_line(line: str) -> bool:
    match = _ONE_LINE.match(line)
    return match is not None and _DOCKER_URI.search(match.group(1)) is not None


def _stanza_without_docker(text: str) -> str:
    field = _URIS_FIELD.search(text)
    words = re.sub(r"^#.*", "", field.group(2), flags=re.MULTILINE).split() if field else []
    others = [uri for uri in words if not _DOCKER_URI.search(uri)]
    if field is None or len(others) == len(words):
        return text
    if others:
        end = "\n" if field.group().endswith("\n") else ""
        return f"{text[: field.start()]}{field.group(1)} {' '.join(others)}{end}{text[field.end() :]}"
    return "".join(line if line.startswith("#") else f"{OFF}{line}" for line in text.splitlines(keepends=True))


def version_tuple(text: str) -> tuple[int, ...]:
    match = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(int(number) for number in match.group(1).split(".")) if match else ()


def extra_daemon_config(host: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What other roles need in daemon.json: what they gave in this run, {} to have it taken out.

    Where none was asked (None), the container toolkit keeps what it was given before for as long as it is installed.
    """
    if given is not None:
        return {key: plain(value) for key, value in given.items()}
    kept: dict[str, Any] = {}
    record = host["docker"]["daemon_config_record"] or {}
    toolkit = host.get("nvidia", {}).get("toolkit", {}).get("version")
    for key, name in TOOLKIT_KEYS if toolkit else ():
        if isinstance(record.get(key), Mapping) and name in record[key]:
            kept[key] = {name: plain(record[key][name])}
    return kept


def plan_daemon_config(docker: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """What daemon.json becomes.

    config: the whole file; write: whether it differs from the one on the host; drift: whether anything is to do at all;
    restart: whether a daemon that runs now has to be restarted; record: what is ours, written after the restart,
    so that a run that was cut off between the two restarts on its next try.
    """
    problem = docker.get("daemon_config_error")
    if problem:
        raise SpecError(str(problem), "not touched; correct the file or remove it")
    existing = docker.get("daemon_config")
    before = docker.get("daemon_config_record")
    config = _fit_log_options(merge(existing or {}, ours, before or {}), existing or {}, ours)
    write = config != (existing or {})
    # A host where nothing is ours, now and before, has no record and needs none.
    drifted = write or (before or {}) != ours
    return {
        "config": config,
        "write": write,
        "drift": drifted,
        "restart": drifted and bool(docker.get("active")),
        "record": {"values": plain(ours)},
    }


def _fit_log_options(config: dict[str, Any], existing: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Options belong to one log driver, and dockerd does not start with those of another: ours brings only its own."""
    driver = ours.get("log-driver")
    if driver and existing.get("log-driver", "json-file") != driver and "log-opts" in config:
        config["log-opts"] = plain(ours.get("log-opts", {}))
        if not config["log-opts"]:
            del config["log-opts"]
    return config


def merge(existing: Mapping[str, Any], ours: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """``existing`` with our values in it and those we set ``before`` and want no longer out of it."""
    merged: dict[str, Any] = {}
    for key in [*existing, *(key for key in ours if key not in existing)]:
        value = _merge_value(existing.get(key, _NOTHING), ours.get(key, _NOTHING), before.get(key, _NOTHING))
        if value is not _NOTHING:
            merged[key] = value
    return merged


def _merge_value(existing: Any, ours: Any, before: Any) -> Any:
    """Dicts merge by key, lists unite, anything else is ours. What is left empty by our going away goes too."""
    if ours is _NOTHING and before is _NOTHING:
        return plain(existing)
    last = before if ours is _NOTHING else ours
    if isinstance(existing, dict) and isinstance(last, dict):
        return _merge_dicts(existing, ours, before)
    if isinstance(existing, list) and isinstance(last, list):
        return _merge_lists(existing, ours, before)
    return _NOTHING if ours is _NOTHING else plain(ours)


def _merge_dicts(existing: dict[str, Any], ours: Any, before: Any) -> Any:
    merged = merge(existing, ours if isinstance(ours, dict) else {}, before if isinstance(before, dict) else {})
    return merged if merged or ours is not _NOTHING else _NOTHING


def _merge_lists(existing: list[Any], ours: Any, before: Any) -> Any:
    """Ours first and in our order (the order of mirrors means something), then what others have in the list."""
    wanted = list(ours) if isinstance(ours, list) else []
    gone = before if isinstance(before, list) else []
    others = [value for value in existing if value not in wanted and value not in gone]
    united = plain(wanted + others)
    return united if united or ours is not _NOTHING else _NOTHING
