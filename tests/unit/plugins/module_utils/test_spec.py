# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError, SpecErrors
from ansible_collections.llmops.fleet.plugins.module_utils._spec import (
    MODEL_KEYS,
    SERVICE_KEYS,
    Settings,
    host_models,
    host_pattern,
    host_services,
    parse_fleet,
    proxy_environment,
    secret_environment,
)
from hypothesis import given
from hypothesis import strategies as st

GROUPS = {"gpu_hosts": ["gpu1", "gpu2"], "gpu1": ["gpu1"], "gpu2": ["gpu2"]}
SETTINGS = Settings(images={"vllm": "vllm/vllm-openai:v0.20.2"})
MODEL = {"name": "qwen", "repo": "Qwen/Qwen3-32B"}
SERVICE = {"name": "chat", "task": "chat", "model": "qwen", "hosts": "gpu_hosts"}


def resolve(pattern):
    return [host for part in pattern.split(",") for host in GROUPS.get(part, [])]


def parse(services, models=(MODEL,), settings=SETTINGS):
    return parse_fleet(list(models), services, resolve, settings)


def errors_of(services, models=(MODEL,)):
    with pytest.raises(SpecErrors) as caught:
        parse(services, models)
    return [str(error) for error in caught.value.errors]


def test_defaults_are_filled_in():
    fleet = parse([SERVICE])
    assert set(fleet["services"][0]) == set(SERVICE_KEYS)
    assert set(fleet["models"]["qwen"]) == set(MODEL_KEYS)
    assert fleet["models"]["qwen"]["revision"] == "master"
    service = fleet["services"][0]
    assert (service["hosts"], service["port"], service["listen"]) == (["gpu1", "gpu2"], 8101, "127.0.0.1")
    assert (service["gpus"], service["state"], service["engine"]) == (1, "present", "vllm")
    assert service["image"] == "vllm/vllm-openai:v0.20.2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modle": 1}, 'fleet_services[0].modle: unknown key; did you mean "model"? known: name, task'),
        ({"model": "gte"}, 'fleet_services[0].model: no model named "gte"; known: qwen'),
        ({"model": None}, "fleet_services[0].model: required"),
        ({"name": None}, "fleet_services[0].name: required"),
        ({"name": "Chat!"}, 'fleet_services[0].name: "Chat!" is not valid; use'),
        ({"task": None}, "fleet_services[0].task: required, one of: chat, embedding, rerank"),
        ({"task": "speech"}, 'fleet_services[0].task: "speech" is none of: chat, embedding, rerank'),
        ({"hosts": "nowhere"}, 'fleet_services[0].hosts: pattern "nowhere" matches no host of the inventory'),
        ({"hosts": None}, "fleet_services[0].hosts: required"),
        ({"hosts": 3}, "fleet_services[0].hosts: required"),
        ({"gpus": "two"}, 'fleet_services[0].gpus: expected a count, or a list of indexes or UUIDs, got "two"'),
        ({"gpus": -1}, "fleet_services[0].gpus: expected 0 or more, got -1"),
        ({"gpus": True}, "fleet_services[0].gpus: expected a count"),
        ({"gpus": [0, 0]}, "fleet_services[0].gpus[1]: 0 is named twice"),
        ({"gpus": ["RTX"]}, 'fleet_services[0].gpus[0]: "RTX" is neither an index nor a UUID'),
        ({"gpu_share": 1.5}, "fleet_services[0].gpu_share: expected a number above 0, up to 1, got 1.5"),
        ({"gpu_share": 0.5, "gpus": 0, "image": "a:1"}, "fleet_services[0].gpu_share: has no meaning with gpus: 0"),
        ({"image": "vllm/vllm-openai:latest"}, 'fleet_services[0].image: "vllm/vllm-openai:latest" has tag latest'),
        ({"image": "vllm/vllm-openai"}, 'fleet_services[0].image: "vllm/vllm-openai" has no tag'),
        ({"image": "A B"}, 'fleet_services[0].image: "A B" is no image reference'),
        ({"gpus": 0}, 'fleet_services[0].image: required: no default image for "vllm-cpu"'),
        ({"state": "gone"}, 'fleet_services[0].state: "gone" is none of: present, stopped, absent'),
        ({"port": 70000}, "fleet_services[0].port: expected a whole number from 1 to 65535, got 70000"),
        ({"port": "http"}, 'fleet_services[0].port: expected a whole number from 1 to 65535, got "http"'),
        ({"listen": "localhost"}, 'fleet_services[0].listen: "localhost" is no IP address'),
        ({"max_model_len": 0}, "fleet_services[0].max_model_len: expected a whole number of at least 1, got 0"),
        ({"extra_args": "--x"}, 'fleet_services[0].extra_args: expected a list, got "--x"'),
        ({"extra_args": [{"a": 1}]}, "fleet_services[0].extra_args[0]: expected a string, got a mapping"),
        ({"extra_env": ["A=1"]}, "fleet_services[0].extra_env: expected a mapping"),
        ({"extra_env": {"A B": 1}}, 'fleet_services[0].extra_env: "A B" is no name of an environment variable'),
        ({"extra_env": {"A": True}}, "fleet_services[0].extra_env.A: expected a string or a number, got a bool"),
        ({"secret_env": {"A": 1}, "extra_env": {"A": 2}}, "fleet_services[0].secret_env.A: is in extra_env too"),
        ({"engine": "sglang"}, 'fleet_services[0].engine: "sglang" is none of: vllm'),
        ({"tools": 3}, "fleet_services[0].tools: expected true, false or a parser's name, got 3"),
        ({"reasoning": True}, "fleet_services[0].reasoning: expected false or a parser's name, got True"),
        ({"hosts": "gpu_hosts,typo"}, 'fleet_services[0].hosts: pattern "typo" matches no host of the inventory'),
        ({"hosts": ["typo", "gpu1"]}, 'fleet_services[0].hosts: pattern "typo" matches no host of the inventory'),
        ({"task": "rerank", "tools": True}, "fleet_services[0].tools: has no meaning for task rerank"),
        ({"dimension": 8}, "fleet_services[0].dimension: has no meaning for task chat"),
        ({"shm_size": "big"}, 'fleet_services[0].shm_size: "big" is not valid; use'),
        ({"aliases": "gpt-4"}, 'fleet_services[0].aliases: expected a list, got "gpt-4"'),
        ({"aliases": ["chat"]}, 'fleet_services[0].aliases[0]: "chat" is already a name of fleet_services[0]'),
    ],
)
def test_one_fault_gives_one_line_that_names_the_item(change, message):
    found = errors_of([{**SERVICE, **change}])
    assert len(found) == 1, found
    assert found[0].startswith(message)
    assert "\n" not in found[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repo": None}, "fleet_models[0].repo: required"),
        ({"repo": "Qwen3"}, 'fleet_models[0].repo: "Qwen3" is not valid; use'),
        ({"source": "s3"}, 'fleet_models[0].source: "s3" is none of: modelscope, path'),
        ({"name": "current"}, 'fleet_models[0].name: "current" is not valid; use'),
        ({"revision": "a..b"}, 'fleet_models[0].revision: "a..b" is not valid; use'),
        ({"revision": 1.0}, "fleet_models[0].revision: expected a string, got 1.0; quote it"),
        ({"path": "/x"}, "fleet_models[0].path: has no meaning with source modelscope"),
        ({"source": "path", "repo": None}, "fleet_models[0].path: required"),
        ({"source": "path", "repo": None, "path": "x"}, 'fleet_models[0].path: "x" is not absolute'),
        ({"source": "path", "path": "/x"}, "fleet_models[0].repo: has no meaning with source path"),
        ({"languages": ["fr"]}, 'fleet_models[0].languages[0]: "fr" is none of: en, zh'),
        ({"allow_remote_code": "yes"}, 'fleet_models[0].allow_remote_code: expected true or false, got "yes"'),
        ({"reop": "a/b"}, 'fleet_models[0].reop: unknown key; did you mean "repo"?'),
    ],
)
def test_faults_of_models(change, message):
    found = errors_of([{**SERVICE, "model": "other", "state": "absent"}], [{**MODEL, **change}])
    assert len(found) == 1, found
    assert found[0].startswith(message)


@pytest.mark.parametrize(
    ("models", "services", "message"),
    [
        ("qwen", [], 'fleet_models: expected a list, got "qwen"'),
        ([MODEL], {"chat": 1}, "fleet_services: expected a list, got a mapping"),
        ([MODEL], ["chat"], 'fleet_services[0]: expected a mapping, got "chat"'),
    ],
)
def test_malformed_types(models, services, message):
    with pytest.raises(SpecErrors) as caught:
        parse_fleet(models, services, resolve, SETTINGS)
    assert message in str(caught.value).splitlines()


def test_all_errors_are_told_at_once():
    found = errors_of(
        [{**SERVICE, "modle": 1, "gpus": "two"}, {**SERVICE, "name": "b", "model": "gte"}], [MODEL, MODEL]
    )
    assert [line.split(": ")[0] for line in found] == [
        "fleet_models[1].name",
        "fleet_services[0].modle",
        "fleet_services[0].gpus",
        "fleet_services[1].model",
        "fleet_services[1].port",
    ]


def test_two_services_on_one_port():
    other = {**SERVICE, "name": "other", "hosts": "gpu2"}
    assert errors_of([SERVICE, other]) == [
        'fleet_services[1].port: 8101 is already the port of fleet_services[0] ("chat") on gpu2; set another port'
    ]
    for free in ({"port": 9000}, {"state": "absent"}, {"listen": "127.0.0.2"}):
        assert len(parse([SERVICE, {**other, **free}])["services"]) == 2
    assert errors_of([SERVICE, {**other, "listen": "0.0.0.0"}])  # a wildcard takes every address
    apart = [{**SERVICE, "hosts": "gpu1"}, other]
    assert len(parse(apart)["services"]) == 2


def test_an_absent_service_needs_no_model_and_no_image():
    service = {**SERVICE, "model": "gone", "gpus": 0, "state": "absent"}
    assert parse([service])["services"][0]["state"] == "absent"


def test_digits_in_strings_are_numbers_as_extra_vars_give_them():
    service = parse([{**SERVICE, "port": "9000", "gpus": "2"}])["services"][0]
    assert (service["port"], service["gpus"]) == (9000, 2)


def test_registry_goes_before_images_that_name_none():
    settings = Settings(images={"vllm": "vllm/vllm-openai:v1"}, image_registry="m.example.cn/docker.io")
    assert parse([SERVICE], settings=settings)["services"][0]["image"] == "m.example.cn/docker.io/vllm/vllm-openai:v1"
    own = {**SERVICE, "image": "reg:5000/x:1"}
    assert parse([own], settings=settings)["services"][0]["image"] == "reg:5000/x:1"


def test_secrets_leave_the_fleet_and_its_errors():
    service = {**SERVICE, "secret_env": {"HF_TOKEN": "s3cr3t", "N": 1}}
    fleet = parse([service])
    assert fleet["services"][0]["secret_env"] == ["HF_TOKEN", "N"]
    assert "s3cr3t" not in str(fleet)
    assert secret_environment([service], ["chat"]) == {"chat": {"HF_TOKEN": "s3cr3t", "N": "1"}}
    assert secret_environment([service], ["embed"]) == {}
    assert "s3cr3t" not in "".join(errors_of([{**SERVICE, "secret_env": {"A": ["s3cr3t"]}}]))
    with pytest.raises(SpecErrors) as caught:
        parse_fleet([MODEL], {"chat": {"secret_env": {"HF_TOKEN": "s3cr3t"}}}, resolve, SETTINGS)
    assert "s3cr3t" not in str(caught.value)


def test_proxies_in_both_cases():
    proxy = {"http": "http://p:1", "no_proxy": "10.0.0.0/8", "https": ""}
    assert proxy_environment(proxy) == {
        "http_proxy": "http://p:1",
        "HTTP_PROXY": "http://p:1",
        "no_proxy": "10.0.0.0/8",
        "NO_PROXY": "10.0.0.0/8",
    }
    assert proxy_environment({}) == {}


def test_services_and_models_of_a_host():
    services = [SERVICE, {**SERVICE, "name": "two", "port": 1, "hosts": "gpu2", "model": "b"}]
    fleet = parse(services, [MODEL, {**MODEL, "name": "b"}])
    assert [s["name"] for s in host_services(fleet, "gpu1")] == ["chat"]
    assert [s["name"] for s in host_services(fleet, "gpu2")] == ["chat", "two"]
    assert [m["name"] for m in host_models(fleet, "gpu2")] == ["qwen", "b"]
    assert host_services(fleet, "elsewhere") == []


def test_state_can_be_overridden_by_name():
    fleet = parse([SERVICE, {**SERVICE, "name": "two", "port": 1}])
    stopped = host_services(fleet, "gpu1", ["two"], "stopped")
    assert [s["state"] for s in stopped] == ["present", "stopped"]
    assert [s["state"] for s in host_services(fleet, "gpu1", [], "absent")] == ["absent", "absent"]
    with pytest.raises(SpecError, match="service three: not in fleet_services; known: chat, two"):
        host_services(fleet, "gpu1", ["three"], "stopped")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(SERVICE_KEYS), inner, max_size=6),
    max_leaves=12,
)


@given(JUNK, JUNK)
def test_junk_is_refused_with_errors_and_never_crashes(models, services):
    try:
        fleet = parse_fleet(models, services, resolve, SETTINGS)
    except SpecErrors as errors:
        assert errors.errors
        assert all(error.path.startswith(("fleet_models", "fleet_services")) for error in errors.errors)
    else:
        assert set(fleet) == {"models", "services"}


@given(
    st.fixed_dictionaries(
        {}, optional={key: JUNK for key in SERVICE_KEYS if key not in ("name", "task", "model", "hosts")}
    )
)
def test_accepted_services_are_well_typed(extra):
    try:
        service = parse([{**SERVICE, **extra}])["services"][0]
    except SpecErrors:
        return
    assert isinstance(service["gpus"], (int, list))
    assert 1 <= service["port"] <= 65535
    assert all(isinstance(argument, str) for argument in service["extra_args"])
    assert all(isinstance(value, str) for value in service["extra_env"].values())


@pytest.mark.parametrize(
    ("hosts", "pattern"),
    [("all", "all"), ("gpus:!gpu3", "gpus:!gpu3"), (["gpu1", " gpu2 "], "gpu1,gpu2"), (("gpus",), "gpus")],
)
def test_host_pattern(hosts, pattern):
    assert host_pattern(hosts) == pattern


@pytest.mark.parametrize("hosts", ["", " ", [], None, 3, {"gpu1": {}}, ["gpu1", ""], ["gpu1", None]])
def test_host_pattern_of_no_host(hosts):
    with pytest.raises(SpecError, match=r"^fleet_hosts: .* names no host; give a pattern such as gpu1,gpu2 or gpus$"):
        host_pattern(hosts)
