# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
import yaml
from ansible_collections.llmops.fleet.plugins.module_utils import _compose
from hypothesis import given
from hypothesis import strategies as st

PLANNED = {
    "name": "chat",
    "state": "present",
    "task": "chat",
    "engine": "vllm",
    "image": "vllm/vllm-openai:v1",
    "argv": ["/models/qwen", "--x", "a$b"],
    "env": {"A": "1"},
    "secret_env": [],
    "gpus": [],
    "listen": "127.0.0.1",
    "port": 8101,
    "container_port": 8000,
    "model": {"name": "qwen", "source": "/data/models/qwen/1", "target": "/models/qwen"},
    "shm_size": "1g",
    "healthcheck": ["CMD", "true"],
    "start_timeout": 900,
}


def project(*changes, secrets=None, docker_version="29.7.2"):
    services = [{**PLANNED, **change} for change in changes]
    return _compose.compose_project({"project": "llmops-fleet", "services": services}, secrets or {}, docker_version)


def container(definition, **change):
    service = {"service": "chat", "state": "running", "health": "healthy", "definition": definition}
    return {**service, "name": "llmops-fleet-chat-1", **change}


def test_a_container_is_hardened():
    service = project({})["services"]["chat"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["volumes"][0]["read_only"] is True
    assert service["volumes"][0]["bind"] == {"create_host_path": False}
    assert service["ports"] == ["127.0.0.1:8101:8000"]
    assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"] == {"max-size": "100m", "max-file": "3"}
    assert service["healthcheck"]["test"] == ["CMD", "true"]
    assert service["shm_size"] == "1g"
    assert "deploy" not in service
    assert "privileged" not in service


def test_dollars_are_literal():
    assert project({})["services"]["chat"]["command"][-1] == "a$$b"


def test_gpus_are_named_never_counted():
    devices = project({"gpus": ["GPU-1"]})["services"]["chat"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "device_ids": ["GPU-1"], "capabilities": ["gpu"]}]


def test_ipv6_address_is_bracketed():
    assert project({"listen": "::1"})["services"]["chat"]["ports"] == ["[::1]:8101:8000"]


@pytest.mark.parametrize(
    ("version", "known"), [("29.7.2", True), ("25.0", True), ("20.10.24+dfsg1", False), (None, False)]
)
def test_start_interval_only_where_docker_knows_it(version, known):
    assert ("start_interval" in project({}, docker_version=version)["services"]["chat"]["healthcheck"]) is known


def test_no_service_no_project():
    assert project({"state": "absent"}) is None


def test_definition_label_follows_every_change_and_secrets_but_not_other_services():
    label = _compose.DEFINITION_LABEL
    base = project({})["services"]["chat"]["labels"][label]
    assert project({}, {"name": "b", "port": 1})["services"]["chat"]["labels"][label] == base
    for change in ({"port": 1}, {"argv": []}, {"image": "b:1"}, {"env": {}}, {"gpus": ["GPU-1"]}, {"shm_size": "2g"}):
        assert project(change)["services"]["chat"]["labels"][label] != base
    with_secret = project({"secret_env": ["T"]}, secrets={"chat": {"T": "x"}})["services"]["chat"]
    other_secret = project({"secret_env": ["T"]}, secrets={"chat": {"T": "y"}})["services"]["chat"]
    assert with_secret["labels"][label] != other_secret["labels"][label]
    assert with_secret["environment"]["T"] == "${SERVICE_CHAT_ENV_T}"
    assert "x" not in with_secret["environment"].values()


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([], ("start", "no container")),
        ([container("D")], (None, None)),
        ([container("old")], ("start", "definition changed")),
        ([container(None)], ("start", "definition changed")),
        ([container("D", state="exited")], ("start", "container is exited")),
        ([container("D", health="unhealthy")], ("start", "container is unhealthy")),
        ([container("D", health="starting")], ("wait", "container is starting")),
        ([container("D", health=None)], (None, None)),
    ],
)
def test_actions_of_a_present_service(containers, expected):
    definition = project({})
    definition["services"]["chat"]["labels"][_compose.DEFINITION_LABEL] = "D"
    found = _compose.actions(definition, containers)
    action, reason = expected
    assert {key for key in ("start", "wait", "stop", "remove") if found[key]} == ({action} if action else set())
    assert found["reasons"] == ({"chat": reason} if reason else {})


def test_actions_of_stopped_and_absent_services():
    definition = project({})
    assert _compose.actions(definition, [container("old")], stopped=["chat"])["stop"] == ["chat"]
    assert _compose.actions(definition, [container("old", state="exited")], stopped=["chat"])["stop"] == []
    assert _compose.actions(definition, [], stopped=["chat"])["start"] == []
    assert _compose.actions(None, [container("D")], absent=["chat"])["remove"] == ["chat"]
    forgotten = _compose.actions(None, [container("D")])
    assert forgotten["remove"] == []  # nobody said that it shall go
    assert forgotten["orphans"] == ["chat"]


def test_services_start_in_the_order_of_the_inventory():
    definition = project({"name": "z"}, {"name": "a"}, {"name": "m"})
    assert _compose.actions(definition, [])["start"] == ["z", "a", "m"]


def test_what_is_restored_after_a_failure():
    before = {"name": "p", "services": {"a": 1, "b": 1, "gone": 1}}
    after = {"name": "p", "services": {"a": 2, "b": 2, "new": 2}}
    assert _compose.restored(before, after, ["a"]) == {"name": "p", "services": {"a": 2, "b": 1, "gone": 1}}
    assert _compose.restored(None, after, []) is None
    assert _compose.restored(None, after, ["new"]) == {"name": "p", "services": {"new": 2}}


def test_changed_services():
    before = {"services": {"a": 1, "b": 1, "c": 1}}
    after = {"services": {"a": 1, "b": 2, "d": 1}}
    assert _compose.changed_services(before, after) == ["b", "c", "d"]
    assert _compose.changed_services(None, after) == ["a", "b", "d"]
    assert _compose.changed_services(after, None) == ["a", "b", "d"]


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=20))
def test_quoted_secrets_stay_on_one_line(value):
    quoted = _compose.quote_env(value)
    assert "\n" not in quoted
    assert quoted[0] == quoted[-1]
    assert quoted[0] in "'\""


NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,12}", fullmatch=True)
VARIABLES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)


@given(NAMES, VARIABLES, NAMES, VARIABLES)
def test_no_two_secrets_share_a_reference(service, variable, other, another):
    reference = _compose.secret_reference(service, variable)
    assert re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", reference)
    assert (reference == _compose.secret_reference(other, another)) == ((service, variable) == (other, another))
    assert (_compose.lines_of([f"{reference}='x'"], [other], True) != []) == (service == other)


def test_services_taken_out_of_a_project():
    assert _compose.without({"name": "p", "services": {"a": 1, "b": 2}}, ["a"]) == {"name": "p", "services": {"b": 2}}
    assert _compose.without({"name": "p", "services": {"a": 1}}, ["a"]) is None
    assert _compose.without(None, ["a"]) is None


def test_secrets_in_the_environment_file():
    variables = _compose.secret_variables({"chat": {"HF_TOKEN": "a'b$c"}, "my-embed": {"K": "plain $x"}})
    assert _compose.environment_file(variables) == (
        "SERVICE_CHAT_ENV_HF_TOKEN=\"a'b\\$c\"\nSERVICE_MY_DEMBED_ENV_K='plain $x'\n"
    )


@given(st.text(max_size=12), st.text(max_size=12))
def test_a_project_survives_yaml(argument, value):
    definition = project({"argv": [argument], "env": {"K": value}})
    assert yaml.safe_load(yaml.safe_dump(definition, sort_keys=False)) == definition
