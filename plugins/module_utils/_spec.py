# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user writes (``fleet_models``, ``fleet_services``) to what the collection works with.

``parse_fleet`` fills defaults and collects every error of an inventory before it raises, each with the
path of its item. Nothing here touches a host, a file or the network.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmops.fleet.plugins.module_utils._engines import ENGINES
from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError, SpecErrors
from ansible_collections.llmops.fleet.plugins.module_utils._image import ImageName

SOURCES = ("modelscope", "path")
TASKS = ("chat", "embedding", "rerank")
STATES = ("present", "stopped", "absent")
LANGUAGES = ("en", "zh")
DEFAULT_REVISION = {"modelscope": "master", "path": None}
DEFAULT_PORTS = {"chat": 8101, "embedding": 8102, "rerank": 8103}

MODEL_KEYS = (
    "name",
    "source",
    "repo",
    "revision",
    "path",
    "include",
    "exclude",
    "languages",
    "allow_remote_code",
)
SERVICE_KEYS = (
    "name",
    "task",
    "model",
    "hosts",
    "state",
    "gpus",
    "gpu_share",
    "aliases",
    "tools",
    "reasoning",
    "max_model_len",
    "engine",
    "image",
    "listen",
    "port",
    "shm_size",
    "start_timeout",
    "dimension",
    "extra_args",
    "extra_env",
    "secret_env",
)

# the store keeps its link "current" beside the revisions of a model, and refuses a model of that name
MODEL_NAME = re.compile(r"^(?!current$)[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")
_SERVICE_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,62}$")
REPO = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*$")
REVISION = re.compile(r"^(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/+-]*$")
_SIZE = re.compile(r"^[0-9]+(\.[0-9]+)?([bkmg]|[kmg]b)$", re.IGNORECASE)
_ENV_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_GPU_UUID = re.compile(r"^(GPU|MIG)-[A-Za-z0-9/-]+$")

_RULES: Mapping[re.Pattern[str], str] = {
    MODEL_NAME: "letters, digits, '.', '_' and '-', a letter or digit first; current is taken",
    _SERVICE_NAME: "lower-case letters, digits, '_' and '-', a letter or digit first",
    REPO: "the form owner/name",
    REVISION: "a branch, a tag or a commit",
    _SIZE: "a size like 10g or 512m",
}

HostResolver = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Settings:
    """Fleet-wide defaults that a service may override.

    ``images`` maps an engine's name, or ``<engine>-cpu`` for services without GPUs, to an image.
    """

    images: Mapping[str, str] = field(default_factory=dict)
    image_registry: str = ""
    listen: str = "127.0.0.1"
    start_timeout: int = 1800


class _Errors:
    """Collects SpecErrors, so that all of an inventory's faults are told at once."""

    def __init__(self) -> None:
        self.found: list[SpecError] = []

    def add(self, path: str, problem: str) -> None:
        self.found.append(SpecError(path, problem))

    @contextmanager
    def collect(self) -> Iterator[None]:
        try:
            yield
        except SpecError as error:
            self.found.append(error)


def _shown(value: object) -> str:
    """A scalar as it is; of anything else only what it is, for there may be secrets in it."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, Sequence) else repr(value)


class _Item:
    """One mapping of a list, read key by key; each reader reports what is wrong and returns the default."""

    def __init__(self, path: str, raw: Mapping[str, Any], errors: _Errors) -> None:
        self.path, self.raw, self.errors = path, raw, errors

    def bad(self, key: str, problem: str) -> None:
        self.errors.add(f"{self.path}.{key}", problem)

    def refuse_unknown(self, known: Sequence[str]) -> None:
        for key in self.raw:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f'; did you mean "{near[0]}"?' if near else ""
                self.bad(str(key), f"unknown key{hint} known: {', '.join(known)}")

    def string(self, key: str, default: str | None = None, pattern: re.Pattern[str] | None = None) -> str | None:
        value = self.raw.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            self.bad(key, f"expected a string, got {_shown(value)}; quote it")
            return default
        if pattern is not None and not pattern.fullmatch(value):
            self.bad(key, f"{_shown(value)} is not valid; use {_RULES[pattern]}")
            return default
        return value

    def required(self, key: str, pattern: re.Pattern[str] | None = None) -> str:
        if self.raw.get(key) is None or self.raw[key] == "":
            self.bad(key, "required")
            return ""
        return self.string(key, "", pattern) or ""

    def choice(self, key: str, choices: Sequence[str], default: str | None) -> str:
        value = self.raw.get(key, default)
        if value is None:
            self.bad(key, f"required, one of: {', '.join(choices)}")
        elif value not in choices:
            self.bad(key, f"{_shown(value)} is none of: {', '.join(choices)}")
        else:
            return str(value)
        return choices[0]

    def integer(self, key: str, default: int | None, low: int, high: int | None = None) -> int | None:
        value = self.raw.get(key)
        if value is None:
            return default
        number = as_int(value)
        if number is None or number < low or (high is not None and number > high):
            span = f"from {low} to {high}" if high is not None else f"of at least {low}"
            self.bad(key, f"expected a whole number {span}, got {_shown(value)}")
            return default
        return number

    def boolean(self, key: str, default: bool) -> bool:
        value = self.raw.get(key, default)
        if isinstance(value, bool):
            return value
        self.bad(key, f"expected true or false, got {_shown(value)}")
        return default

    def parser(self, key: str, derived: bool) -> bool | str:
        """False, the name of a parser or, where it can be ``derived``, true."""
        value = self.raw.get(key, False)
        if value is False or (value is True and derived) or (isinstance(value, str) and re.match(r"^\w+$", value)):
            return value
        either = "true, false" if derived else "false"
        self.bad(key, f"expected {either} or a parser's name, got {_shown(value)}")
        return False

    def strings(self, key: str, choices: Sequence[str] | None = None) -> list[str]:
        value = self.raw.get(key)
        if value is None:
            return []
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
            self.bad(key, f"expected a list, got {_shown(value)}")
            return []
        out = []
        for index, entry in enumerate(value):
            where = f"{key}[{index}]"
            if isinstance(entry, bool) or not isinstance(entry, (str, int, float)):
                self.bad(where, f"expected a string, got {_shown(entry)}")
            elif choices is not None and entry not in choices:
                self.bad(where, f"{_shown(entry)} is none of: {', '.join(choices)}")
            else:
                out.append(str(entry))
        return out

    def environment(self, key: str) -> dict[str, str]:
        value = self.raw.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.bad(key, "expected a mapping of names to values")
            return {}
        out = {}
        for name, entry in value.items():
            if not isinstance(name, str) or not _ENV_NAME.match(name):
                self.bad(key, f"{_shown(name)} is no name of an environment variable")
            elif isinstance(entry, bool) or not isinstance(entry, (str, int, float)):
                # the value is not shown: it may be a secret
                self.bad(f"{key}.{name}", f"expected a string or a number, got a {type(entry).__name__}; quote it")
            else:
                out[name] = str(entry)
        return out


def as_int(value: object) -> int | None:
    """An int, or a string of digits as Ansible's ``-e`` and templates give it; else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str) and re.match(r"^-?[0-9]+$", value):
        return int(value)
    return None


def _items(raw: object, path: str, errors: _Errors) -> Iterator[_Item]:
    if raw is None:
        return
    if isinstance(raw, (str, Mapping)) or not isinstance(raw, Sequence):
        errors.add(path, f"expected a list, got {_shown(raw)}")
        return
    for index, entry in enumerate(raw):
        where = f"{path}[{index}]"
        if isinstance(entry, Mapping):
            yield _Item(where, entry, errors)
        else:
            errors.add(where, f"expected a mapping, got {_shown(entry)}")


def _parse_model(item: _Item) -> dict[str, Any]:
    item.refuse_unknown(MODEL_KEYS)
    source = item.choice("source", SOURCES, "modelscope")
    model: dict[str, Any] = {
        "name": item.required("name", MODEL_NAME),
        "source": source,
        "repo": None,
        "revision": item.string("revision", DEFAULT_REVISION[source], REVISION),
        "path": None,
        "include": item.strings("include"),
        "exclude": item.strings("exclude"),
        "languages": item.strings("languages", LANGUAGES) or list(LANGUAGES),
        "allow_remote_code": item.boolean("allow_remote_code", False),
    }
    if source == "path":
        model["path"] = item.required("path")
        if model["path"] and not model["path"].startswith("/"):
            item.bad("path", f"{_shown(model['path'])} is not absolute")
        for key in ("repo", "revision"):
            if item.raw.get(key) is not None:
                item.bad(key, "has no meaning with source path; remove it")
    else:
        model["repo"] = item.required("repo", REPO)
        if item.raw.get("path") is not None:
            item.bad("path", f"has no meaning with source {source}; set source: path or remove it")
    return model


def _parse_gpus(item: _Item) -> int | list[int | str]:
    value = item.raw.get("gpus", 1)
    number = as_int(value)
    if number is not None:
        if number >= 0:
            return number
        item.bad("gpus", f"expected 0 or more, got {number}")
        return 1
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and value:
        out: list[int | str] = []
        for index, entry in enumerate(value):
            gpu: int | str | None = as_int(entry)
            if gpu is None and isinstance(entry, str) and _GPU_UUID.match(entry):
                gpu = str(entry)
            if gpu is None or (isinstance(gpu, int) and gpu < 0):
                item.bad(f"gpus[{index}]", f"{_shown(entry)} is neither an index nor a UUID (GPU-...)")
            elif gpu in out:
                item.bad(f"gpus[{index}]", f"{_shown(entry)} is named twice")
            else:
                out.append(gpu)
        return out
    item.bad("gpus", f"expected a count, or a list of indexes or UUIDs, got {_shown(value)}")
    return 1


def _parse_share(item: _Item, gpus: int | list[int | str]) -> float | None:
    value = item.raw.get("gpu_share")
    if value is None:
        return None
    try:
        share = float(value) if not isinstance(value, bool) else -1.0
    except (TypeError, ValueError):
        share = -1.0
    if not 0 < share <= 1:
        item.bad("gpu_share", f"expected a number above 0, up to 1, got {_shown(value)}")
    elif gpus == 0:
        item.bad("gpu_share", "has no meaning with gpus: 0; remove it")
    else:
        return share
    return None


def _parse_image(item: _Item, engine: str, gpus: int | list[int | str], settings: Settings) -> str:
    variant = f"{engine}-cpu" if gpus == 0 else engine
    reference = item.string("image") or settings.images.get(variant)
    where = f"{item.path}.image"
    if not reference:
        item.errors.add(where, f'required: no default image for "{variant}"; set it here or in fleet_images.{variant}')
        return ""
    with item.errors.collect():
        return str(ImageName.parse(reference, where).with_registry(settings.image_registry))
    return ""


def _parse_hosts(item: _Item, resolve_hosts: HostResolver) -> list[str]:
    value = item.raw.get("hosts")
    if isinstance(value, str) and value:
        patterns = value.split(",")
    elif isinstance(value, list) and value and all(isinstance(entry, str) for entry in value):
        patterns = value
    else:
        item.bad("hosts", f"required, an inventory group or pattern, got {_shown(value)}")
        return []
    for pattern in patterns:
        # what takes hosts away may find none
        if not pattern.strip().startswith(("!", "&")) and not resolve_hosts(pattern):
            item.bad("hosts", f"pattern {_shown(pattern)} matches no host of the inventory")
    return list(resolve_hosts(",".join(patterns)))


def _parse_listen(item: _Item, settings: Settings) -> str:
    listen = item.string("listen", settings.listen) or settings.listen
    try:
        return str(ipaddress.ip_address(listen))
    except ValueError:
        item.bad("listen", f"{_shown(listen)} is no IP address")
        return settings.listen


def _parse_service(
    item: _Item, models: Mapping[str, Any], resolve_hosts: HostResolver, settings: Settings
) -> dict[str, Any]:
    item.refuse_unknown(SERVICE_KEYS)
    state = item.choice("state", STATES, "present")
    task = item.choice("task", TASKS, None)
    engine = item.choice("engine", tuple(ENGINES), "vllm")
    gpus = _parse_gpus(item)
    model = item.required("model", MODEL_NAME)
    if model and model not in models and state != "absent":
        known = ", ".join(sorted(models)) or "none; add it to fleet_models"
        item.bad("model", f'no model named "{model}"; known: {known}')
    service: dict[str, Any] = {
        "name": item.required("name", _SERVICE_NAME),
        "task": task,
        "model": model,
        "hosts": _parse_hosts(item, resolve_hosts),
        "state": state,
        "gpus": gpus,
        "gpu_share": _parse_share(item, gpus),
        "aliases": item.strings("aliases"),
        "tools": item.parser("tools", derived=True),
        "reasoning": item.parser("reasoning", derived=False),
        "max_model_len": item.integer("max_model_len", None, 1),
        "engine": engine,
        "image": _parse_image(item, engine, gpus, settings) if state != "absent" else "",
        "listen": _parse_listen(item, settings),
        "port": item.integer("port", DEFAULT_PORTS[task], 1, 65535),
        "shm_size": item.string("shm_size", None, _SIZE),
        "start_timeout": item.integer("start_timeout", settings.start_timeout, 1),
        "dimension": item.integer("dimension", None, 1),
        "extra_args": item.strings("extra_args"),
        "extra_env": item.environment("extra_env"),
        # names only: the values never travel in facts
        "secret_env": sorted(item.environment("secret_env")),
    }
    for key in ("tools", "reasoning"):
        if service[key] and task != "chat":
            item.bad(key, f"has no meaning for task {task}; remove it")
    if service["dimension"] and task != "embedding":
        item.bad("dimension", f"has no meaning for task {task}; remove it")
    for name in service["secret_env"]:
        if name in service["extra_env"]:
            item.bad(f"secret_env.{name}", "is in extra_env too; keep one of them")
    return service


def _refuse_duplicates(items: Sequence[_Item], kind: str, errors: _Errors) -> None:
    first: dict[str, str] = {}
    for item in items:
        name = item.raw.get("name")
        if isinstance(name, str) and name:
            if name in first:
                errors.add(f"{item.path}.name", f'{kind} "{name}" is already {first[name]}')
            first.setdefault(name, item.path)


def _refuse_shared_aliases(services: Sequence[tuple[str, dict[str, Any]]], errors: _Errors) -> None:
    owner = {service["name"]: path for path, service in services}
    for path, service in services:
        for index, alias in enumerate(service["aliases"]):
            if alias in owner and owner[alias] != f"{path}.aliases":
                errors.add(f"{path}.aliases[{index}]", f'"{alias}" is already a name of {owner[alias]}')
            owner.setdefault(alias, f"{path}.aliases")


def same_address(left: str, right: str) -> bool:
    """Whether listeners on the two addresses would collide on one port."""
    wildcards = {"0.0.0.0", "::"}
    return left == right or left in wildcards or right in wildcards


def _refuse_shared_ports(services: Sequence[tuple[str, dict[str, Any]]], errors: _Errors) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []
    for path, service in services:
        if service["state"] == "absent":
            continue
        for other_path, other in seen:
            both = [host for host in service["hosts"] if host in other["hosts"]]
            if both and service["port"] == other["port"] and same_address(service["listen"], other["listen"]):
                errors.add(
                    f"{path}.port",
                    f'{service["port"]} is already the port of {other_path} ("{other["name"]}") on {", ".join(both)}; '
                    "set another port",
                )
                break
        seen.append((path, service))


def parse_fleet(
    models: object, services: object, resolve_hosts: HostResolver, settings: Settings | None = None
) -> dict[str, Any]:
    """Normalise ``fleet_models`` and ``fleet_services``.

    ``resolve_hosts`` maps an inventory pattern to host names. Returns ``{"models": {name: model},
    "services": [service]}`` with every key present. Raises SpecErrors with everything that is wrong.
    """
    settings = settings or Settings()
    errors = _Errors()
    model_items = list(_items(models, "fleet_models", errors))
    parsed_models = {str(model["name"]): model for model in map(_parse_model, model_items) if model["name"]}
    _refuse_duplicates(model_items, "model", errors)
    service_items = list(_items(services, "fleet_services", errors))
    parsed = [(item.path, _parse_service(item, parsed_models, resolve_hosts, settings)) for item in service_items]
    _refuse_duplicates(service_items, "service", errors)
    _refuse_shared_aliases(parsed, errors)
    _refuse_shared_ports(parsed, errors)
    if errors.found:
        raise SpecErrors(errors.found)
    return {"models": parsed_models, "services": [service for _path, service in parsed]}


def host_services(
    fleet: Mapping[str, Any], host: str, names: Sequence[str] = (), state: str | None = None
) -> list[dict[str, Any]]:
    """The services, of any state, that are meant for ``host``, in the order of the inventory.

    With ``state``, the services in ``names`` (or all, if none is named) are given that state.
    """
    for name in names:
        if name not in {service["name"] for service in fleet["services"]}:
            known = ", ".join(service["name"] for service in fleet["services"])
            raise SpecError(f"service {name}", f"not in fleet_services; known: {known}")
    return [
        {**service, "state": state} if state and (not names or service["name"] in names) else dict(service)
        for service in fleet["services"]
        if host in service["hosts"]
    ]


def host_models(fleet: Mapping[str, Any], host: str) -> list[dict[str, Any]]:
    """The models that services of ``host`` need, each once, in the order of first use."""
    used: Iterable[str] = dict.fromkeys(
        service["model"] for service in host_services(fleet, host) if service["state"] != "absent"
    )
    return [dict(fleet["models"][name]) for name in used]


def host_pattern(hosts: object) -> str:
    """``fleet_hosts`` as a pattern of hosts: a pattern, or a list of hosts, groups and patterns."""
    parts = list(hosts) if isinstance(hosts, (list, tuple)) else [hosts]
    if not parts or not all(isinstance(part, str) and part.strip() for part in parts):
        raise SpecError("fleet_hosts", f"{_shown(hosts)} names no host; give a pattern such as gpu1,gpu2 or gpus")
    return ",".join(str(part).strip() for part in parts)


def proxy_environment(proxy: Mapping[str, str] | None) -> dict[str, str]:
    """``fleet_proxy`` ({http, https, no_proxy}) as the environment variables that programs read, in both cases."""
    names = {"http": "http_proxy", "https": "https_proxy", "no_proxy": "no_proxy"}
    set_ones = {name: str(proxy[key]) for key, name in names.items() if proxy and proxy.get(key)}
    return {**set_ones, **{name.upper(): value for name, value in set_ones.items()}}


def secret_environment(services: object, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The values of ``secret_env`` of the named services: {service: {variable: value}}."""
    wanted = set(names)
    return {
        item.raw["name"]: values
        for item in _items(services, "fleet_services", _Errors())
        if item.raw.get("name") in wanted and (values := item.environment("secret_env"))
    }
