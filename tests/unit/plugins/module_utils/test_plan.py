# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError
from ansible_collections.llmops.fleet.plugins.module_utils._plan import assign_gpus, host_plan, needed_images
from hypothesis import given
from hypothesis import strategies as st

DIGEST = "sha256:" + "b" * 64
SERVICE = {
    "name": "chat",
    "task": "chat",
    "model": "qwen",
    "hosts": ["gpu1"],
    "state": "present",
    "gpus": 0,
    "gpu_share": None,
    "aliases": ["gpt-4"],
    "tools": False,
    "reasoning": False,
    "max_model_len": None,
    "engine": "vllm",
    "image": "reg:5000/vllm:1@" + DIGEST,
    "listen": "127.0.0.1",
    "port": 8101,
    "shm_size": None,
    "start_timeout": 900,
    "dimension": None,
    "extra_args": [],
    "extra_env": {},
    "secret_env": [],
}
MODELS = {"qwen": {"path": "/data/models/qwen/0123456789abcdef", "facts": {"tool_call_tag": True}}}


UNKNOWN = {"qwen": {"path": "/m", "facts": {}}}


def gpus(count):
    return [{"index": i, "uuid": f"GPU-{i}", "name": "H100", "memory_total": 81559} for i in range(count)]


def plan_of(change, count=2, models=MODELS):
    return host_plan([{**SERVICE, **change}], {"gpus": gpus(count)}, models)["services"][0]


def test_plan_of_a_service():
    planned = plan_of({})
    assert planned["argv"] == [
        "/models/qwen",
        "--served-model-name",
        "chat",
        "gpt-4",
        "--host",
        "0.0.0.0",
        "--port",
        "8000",
    ]
    assert planned["model"] == {"name": "qwen", "source": MODELS["qwen"]["path"], "target": "/models/qwen"}
    assert planned["env"]["HF_HUB_OFFLINE"] == "1"
    assert planned["gpus"] == []


@pytest.mark.parametrize(
    ("change", "arguments"),
    [
        ({"task": "embedding"}, ["--runner", "pooling"]),
        ({"task": "rerank"}, ["--runner", "pooling"]),
        ({"max_model_len": 4096}, ["--max-model-len", "4096"]),
        ({"gpus": 2}, ["--tensor-parallel-size", "2", "--distributed-executor-backend", "mp"]),
        ({"gpus": [0, 1]}, ["--tensor-parallel-size", "2", "--distributed-executor-backend", "mp"]),
        ({"gpus": 1, "gpu_share": 0.1}, ["--gpu-memory-utilization", "0.1"]),
        ({"tools": True}, ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]),
        ({"tools": "qwen3_xml"}, ["--enable-auto-tool-choice", "--tool-call-parser", "qwen3_xml"]),
        ({"reasoning": "qwen3"}, ["--reasoning-parser", "qwen3"]),
        ({"extra_args": ["--enforce-eager"]}, ["--enforce-eager"]),
    ],
)
def test_arguments_follow_from_the_service(change, arguments):
    argv = plan_of(change)["argv"]
    at = argv.index(arguments[0])
    assert argv[at : at + len(arguments)] == arguments


def test_what_cannot_be_derived_is_asked_for():
    models = {"qwen": {"path": "/m", "facts": {"tool_call_tag": False}}}
    with pytest.raises(SpecError, match=r"^service chat\.tools: cannot tell the tool-call parser .* name it"):
        plan_of({"tools": True}, models=models)
    assert (
        "(told by the model's chat template once it is downloaded)" in plan_of({"tools": True}, models=UNKNOWN)["argv"]
    )


def test_a_model_that_is_not_there_is_an_error_but_in_check_mode():
    missing = {"qwen": {"path": None, "reason": "never downloaded"}}
    with pytest.raises(SpecError, match=r'service chat\.model: model "qwen" is not in the store of this host: never'):
        host_plan([SERVICE], {"gpus": []}, missing)
    planned = host_plan([SERVICE], {"gpus": []}, missing, missing_models=True)
    assert planned["services"][0]["model"]["source"] == "(not downloaded yet)"
    assert host_plan([{**SERVICE, "state": "absent"}], {"gpus": []}, missing)["services"] == [
        {"name": "chat", "state": "absent"}
    ]


def test_named_gpus_are_served_before_counts():
    services = [
        {**SERVICE, "name": "a", "gpus": 1},
        {**SERVICE, "name": "b", "gpus": ["GPU-0"]},
        {**SERVICE, "name": "c", "gpus": [1], "gpu_share": 0.5},
        {**SERVICE, "name": "d", "gpus": 1, "gpu_share": 0.5},
    ]
    assert assign_gpus(services, gpus(3)) == {"a": ["GPU-2"], "b": ["GPU-0"], "c": ["GPU-1"], "d": ["GPU-1"]}


@pytest.mark.parametrize(
    ("services", "message"),
    [
        ([{"gpus": 3}], r"service s0\.gpus: needs 3 GPUs with 1 free each; the host has 2, 2 of them"),
        ([{"gpus": [7]}], r"service s0\.gpus: the host has no GPU 7; it has 2"),
        ([{"gpus": [0]}, {"gpus": [0]}], r"service s1\.gpus: GPU 0 has 0 left, 1 is asked for"),
    ],
)
def test_gpus_that_are_not_there(services, message):
    with pytest.raises(SpecError, match=message):
        assign_gpus([{**SERVICE, "name": f"s{i}", **change} for i, change in enumerate(services)], gpus(2))


SHARES = st.none() | st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.9, 1.0])


@given(st.lists(st.tuples(st.integers(0, 3), SHARES), max_size=8), st.integers(0, 4))
def test_no_gpu_is_promised_twice(wanted, count):
    services = [{**SERVICE, "name": f"s{i}", "gpus": n, "gpu_share": share} for i, (n, share) in enumerate(wanted)]
    try:
        taken = assign_gpus(services, gpus(count))
    except SpecError:
        return
    for gpu in gpus(count):
        load = sum(s["gpu_share"] or 1.0 for s in services if gpu["uuid"] in taken[s["name"]])
        assert load <= 1 + 1e-6
    assert all(len(set(taken[s["name"]])) == s["gpus"] for s in services)
    host = {"gpus": gpus(count)}
    again = [json.dumps(host_plan(services, host, MODELS), sort_keys=True) for _run in range(2)]
    assert again[0] == again[1]


def test_images_to_pull():
    services = [SERVICE, {**SERVICE, "name": "b"}, {**SERVICE, "name": "c", "image": "x:1", "state": "stopped"}]
    assert needed_images(services, []) == [SERVICE["image"]]
    assert needed_images(services, ["reg:5000/vllm:1"]) == [SERVICE["image"]]  # a tag says nothing about the digest
    assert needed_images(services, [f"reg:5000/vllm@{DIGEST}"]) == []
