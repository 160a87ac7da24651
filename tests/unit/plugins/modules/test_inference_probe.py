# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a double of an engine: this proves the client and the judgement, not a model."""

from __future__ import annotations

import json
import pathlib
import sys
import time

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.llmops.fleet.plugins.modules import inference_probe

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "fixtures" / "probes"))
import engine_double


@pytest.fixture
def run(capfd):
    def call(**params):
        with patch_module_args(params), pytest.raises(SystemExit):
            inference_probe.main()
        out, _err = capfd.readouterr()
        return json.loads(out)

    return call


def endpoint(url, task="chat", **more):
    return {"service": task, "task": task, "base_url": url, **more}


def results(found):
    return {item["probe"]: item["ok"] for item in found["evidence"]}


@pytest.mark.parametrize("check_mode", [False, True])
def test_three_services(run, check_mode):
    with (
        engine_double.running() as chat,
        engine_double.running(models="models_embedding.json", embeddings="embeddings_en_zh.json") as embedding,
        engine_double.running(models="models_rerank.json") as rerank,
    ):
        found = run(
            endpoints=[
                endpoint(chat.url, tools=True),
                endpoint(embedding.url + "/v1", "embedding", languages=["en", "zh"], dimension=8),
                endpoint(rerank.url, "rerank"),
            ],
            _ansible_check_mode=check_mode,
        )
    assert (found["changed"], found["ok"], found.get("failed")) == (False, True, None)
    assert [(item["service"], item["probe"], item["ok"]) for item in found["evidence"]] == [
        ("chat", "models_listed", True),
        ("chat", "chat_answer", True),
        ("chat", "chat_stream", True),
        ("chat", "chat_tool_call", True),
        ("chat", "chat_tool_auto", False),
        ("embedding", "models_listed", True),
        ("embedding", "embedding_dimension", True),
        ("embedding", "embedding_norm", True),
        ("embedding", "embedding_related_en", True),
        ("embedding", "embedding_related_zh", True),
        ("rerank", "models_listed", True),
        ("rerank", "rerank_order", True),
    ]
    assert [path for _method, path, _headers, _body in embedding.requests] == ["/v1/models", "/v1/embeddings"]


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        ("chat_tool_call_bare_string.json", r'arguments is a string, not an object: "\"Paris\""'),
        ("chat_tool_call_cut_off.json", "cut off before a whole tool call, finish_reason length, content null"),
        ((404, "application/json", engine_double.fixture("error_404.json")), "HTTP 404: The model `x` does not exist."),
        (b"<html>", 'not JSON, content type application/json: "<html>"'),
    ],
    ids=["bare string", "cut off", "404", "not JSON"],
)
def test_a_wrong_answer_is_evidence_and_the_rest_is_asked(run, answer, got):
    with engine_double.running(tool_required=answer, tool_auto="chat_tool_call.json") as server:
        found = run(endpoints=[endpoint(server.url, tools=True)])
    assert not found["ok"]
    assert "failed" not in found
    assert [(item["probe"], item["got"]) for item in found["evidence"] if not item["ok"]] == [("chat_tool_call", got)]
    assert len(found["evidence"]) == 5


def test_what_is_not_required_does_not_fail(run):
    with engine_double.running() as server:
        found = run(endpoints=[endpoint(server.url, tools=True)], fail_on_error=True)
    assert results(found)["chat_tool_auto"] is False
    assert found["ok"]
    assert "failed" not in found


def test_fail_on_error_has_a_line_for_each_failure(run):
    answer = engine_double.fixture("chat_answer.json").replace(b"Paris", b"Lyon")
    with engine_double.running(chat=answer, stream="chat_answer.json") as server:
        found = run(endpoints=[endpoint(server.url)], fail_on_error=True)
    url = f"({server.url}/v1/chat/completions)"
    assert found["failed"]
    assert len(found["evidence"]) == 3
    first, second = found["msg"].splitlines()
    assert first == (
        f'chat chat_answer: expected /paris/i, got "The capital of France is Lyon.", finish_reason stop {url}'
    )
    assert second.startswith("chat chat_stream: expected /paris/i in several chunks, usage, [DONE], got no events, ")


def test_nobody_listens(run):
    port = engine_double.closed_port()
    found = run(endpoints=[endpoint(f"http://127.0.0.1:{port}")], retries=2, delay=0.01)
    assert [(item["probe"], item["ok"], item["got"]) for item in found["evidence"]] == [
        ("models_listed", False, "connection refused"),
        ("chat_answer", False, "not tried: connection refused"),
        ("chat_stream", False, "not tried: connection refused"),
    ]


def test_a_connection_that_was_lost_is_tried_again(run):
    with engine_double.running(models=None) as server:
        found = run(endpoints=[endpoint(server.url)], retries=3, delay=0)
    assert len(server.requests) == 4
    assert found["evidence"][0]["got"].startswith("connection failed: ")


def test_an_answer_is_not_asked_for_again(run):
    with engine_double.running(models=(500, "text/plain", b"no"), chat=(503, "text/plain", b"busy")) as server:
        found = run(endpoints=[endpoint(server.url)], retries=5, delay=0)
    assert [item["got"] for item in found["evidence"][:2]] == ["HTTP 500: no", "HTTP 503: busy"]
    assert len(server.requests) == 3


def test_a_hung_engine_costs_one_timeout(run):
    with engine_double.running() as server:
        server.delay = 30
        found = run(endpoints=[endpoint(server.url)], timeout=0.2, retries=5)
        assert len(server.requests) == 1
    assert [item["got"] for item in found["evidence"][:2]] == [
        "no complete answer within 0.2 s",
        "not tried: no complete answer within 0.2 s",
    ]


def test_endpoints_are_probed_at_the_same_time(run):
    with engine_double.running() as server:
        server.delay = 0.2
        start = time.monotonic()
        found = run(endpoints=[endpoint(server.url) for _number in range(8)])
        spent = time.monotonic() - start
    assert found["ok"]
    # One after the other they take 8 x 3 x 0.2 = 4.8 s
    assert spent < 3


def test_keys_go_into_the_header_and_nowhere_else(run):
    with engine_double.running() as server, engine_double.running() as other:
        server.api_key, other.api_key = "sk-of-the-endpoint", "sk-of-all"
        found = run(
            endpoints=[endpoint(server.url, api_key="sk-of-the-endpoint"), endpoint(other.url)],
            api_key="sk-of-all",
        )
    assert found["ok"]
    assert "sk-of" not in json.dumps(found)
    assert "sk-of" not in json.dumps([(path, body) for _method, path, _headers, body in server.requests])


def test_a_wrong_key_is_evidence(run):
    with engine_double.running() as server:
        server.api_key = "sk-right"
        found = run(endpoints=[endpoint(server.url)], api_key="sk-wrong")
    assert {item["got"] for item in found["evidence"]} == {"HTTP 401: Unauthorized"}


def test_the_model_is_asked_for_by_its_served_name(run):
    with engine_double.running() as server:
        found = run(endpoints=[endpoint(server.url, service="assistant", model="smollm2")])
    assert found["ok"]
    assert {item["service"] for item in found["evidence"]} == {"assistant"}
    assert {body["model"] for _method, _path, _headers, body in server.requests if body} == {"smollm2"}


def test_all_mistakes_are_told_before_anything_is_asked(run):
    with engine_double.running() as server:
        found = run(
            endpoints=[endpoint(server.url), endpoint("ftp://a"), endpoint(server.url, api_key="sk no")],
            timeout=0,
            retries=-1,
        )
    assert found["failed"]
    assert found["msg"].splitlines() == [
        "timeout: must be more than 0, not 0.0",
        "retries: must be 0 or more, not -1",
        "endpoints[1].base_url: not an http or https URL with a host: 'ftp://a'",
        "endpoints[2].api_key: has a blank or a character that cannot stand in an HTTP header",
    ]
    assert server.requests == []


def test_nothing_to_probe(run):
    found = run(endpoints=[])
    assert (found["evidence"], found["ok"]) == ([], True)
