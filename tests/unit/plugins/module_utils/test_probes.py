# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import pathlib

import jsonschema
import pytest
from ansible_collections.llmops.fleet.plugins.module_utils import _probes
from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError
from ansible_collections.llmops.fleet.plugins.module_utils._http import SseDecoder
from ansible_collections.llmops.fleet.plugins.module_utils._probes import Endpoint, Reply
from hypothesis import given
from hypothesis import strategies as st

FIXTURES = pathlib.Path(__file__).parents[3] / "fixtures" / "probes"
JSON = "application/json"


def endpoint(task="chat", **more):
    return Endpoint(service=task, task=task, base_url="http://127.0.0.1:8101", model=task, **more)


def steps_by_probe(target):
    return {check.probe: step for step in _probes.plan(target) for check in step.checks}


def row(target, probe, reply):
    rows = _probes.judge(target, steps_by_probe(target)[probe], reply, 0.25)
    return next(item for item in rows if item["probe"] == probe)


def reply_of(name, status=200):
    body = (FIXTURES / name).read_bytes()
    if name.endswith(".sse"):
        return Reply(status, "text/event-stream", body, tuple(SseDecoder().feed(body)))
    return Reply(status, JSON, body)


def reply_with(value, status=200):
    return Reply(status, JSON, json.dumps(value).encode())


def edited(name, edit):
    value = json.loads((FIXTURES / name).read_text(encoding="utf-8"))
    edit(value)
    return reply_with(value)


def stream_of(*chunks, done=True):
    return Reply(200, "text/event-stream", b"", (*map(json.dumps, chunks), *(["[DONE]"] if done else [])))


def chunk(content=None, finish=None, **more):
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}], **more}


USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 8, "total_tokens": 11}}


# --- what is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "probes"),
    [
        (endpoint(), ["models_listed", "chat_answer", "chat_stream"]),
        (endpoint(tools=True), ["models_listed", "chat_answer", "chat_stream", "chat_tool_call", "chat_tool_auto"]),
        (
            endpoint("embedding", languages=("zh", "en")),
            [
                "models_listed",
                "embedding_dimension",
                "embedding_norm",
                "embedding_related_en",
                "embedding_related_zh",
            ],
        ),
        (endpoint("rerank"), ["models_listed", "rerank_order"]),
        (endpoint("rerank", languages=("en", "zh")), ["models_listed", "rerank_order", "rerank_order_zh"]),
        (endpoint("rerank", languages=("zh",)), ["models_listed", "rerank_order_zh"]),
    ],
)
def test_probes_of_an_endpoint(target, probes):
    assert list(steps_by_probe(target)) == probes


def test_only_what_depends_on_the_model_is_not_required():
    for target in (endpoint(tools=True), endpoint("embedding"), endpoint("rerank")):
        checks = [check for step in _probes.plan(target) for check in step.checks]
        assert [check.probe for check in checks if not check.required] == (
            ["chat_tool_auto"] if target.task == "chat" else []
        )


@pytest.mark.parametrize("task", ["embedding", "rerank"])
def test_a_model_of_another_language_is_asked_in_english_for_a_note(task):
    checks = [check for step in _probes.plan(endpoint(task, languages=("de",))) for check in step.checks]
    assert [check.probe for check in checks if not check.required] == [
        "embedding_related_en" if task == "embedding" else "rerank_order"
    ]


def test_embeddings_are_asked_for_in_one_request():
    steps = _probes.plan(endpoint("embedding", languages=("en", "zh")))
    assert [step.url.rsplit("/", 1)[1] for step in steps] == ["models", "embeddings"]
    assert len(set(steps[1].payload["input"])) == 6


def test_chat_requests_are_bounded_and_deterministic():
    steps = steps_by_probe(endpoint(tools=True))
    bodies = [step.payload for probe, step in steps.items() if probe != "models_listed"]
    assert {body["temperature"] for body in bodies} == {0}
    assert max(body["max_tokens"] for body in bodies) <= 128
    assert steps["chat_stream"].payload["stream_options"] == {"include_usage": True}
    tool = steps["chat_tool_call"].payload
    assert (tool["tool_choice"], tool["tools"][0]["function"]["strict"]) == ("required", True)
    assert steps["chat_tool_auto"].payload == {**tool, "tool_choice": "auto"}


def test_a_reasoning_model_gets_room_to_think():
    for step in _probes.plan(endpoint(tools=True, reasoning=True))[1:]:
        assert step.payload["max_tokens"] == 2048


@pytest.mark.parametrize(
    ("given_url", "base"),
    [
        ("http://10.0.0.1:8000", "http://10.0.0.1:8000"),
        ("http://10.0.0.1:8000/", "http://10.0.0.1:8000"),
        ("http://10.0.0.1:8000/v1", "http://10.0.0.1:8000"),
        ("https://llm.example.com/chat/v1/", "https://llm.example.com/chat"),
        ("http://[fd00::1]:8101", "http://[fd00::1]:8101"),
    ],
)
def test_base_url(given_url, base):
    target = Endpoint.parse({"service": "chat", "task": "chat", "base_url": given_url}, "endpoints[0]")
    assert target.base_url == base
    assert _probes.plan(target)[0].url == f"{base}/v1/models"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"base_url": "10.0.0.1:8000"}, "endpoints[3].base_url: not an http or https URL with a host: '10.0.0.1:8000'"),
        ({"base_url": "http://"}, "endpoints[3].base_url: not an http or https URL with a host: 'http://'"),
        ({"base_url": "http://a:0x"}, "endpoints[3].base_url: not an http or https URL with a host: 'http://a:0x'"),
        ({"base_url": "http://me:pw@a"}, "endpoints[3].base_url: holds credentials; give them as api_key"),
        ({"base_url": "http://a/?x=1"}, "endpoints[3].base_url: must end before '?' or '#': 'http://a/?x=1'"),
        ({"task": "speech"}, "endpoints[3].task: no probes for 'speech'; known: chat, embedding, rerank"),
        ({"dimension": 0}, "endpoints[3].dimension: must be at least 1, not 0"),
    ],
)
def test_a_wrong_endpoint_is_named(raw, message):
    with pytest.raises(SpecError) as caught:
        Endpoint.parse({"service": "chat", "task": "chat", "base_url": "http://a", **raw}, "endpoints[3]")
    assert str(caught.value) == message


def test_the_model_is_named_like_the_service_unless_told():
    raw = {"service": "chat", "task": "chat", "base_url": "http://a", "model": None, "languages": ["zh"]}
    assert Endpoint.parse(raw, "e").model == "chat"
    assert Endpoint.parse({**raw, "model": "qwen"}, "e").model == "qwen"
    assert Endpoint.parse(raw, "e").languages == ("zh",)


# --- how answers are judged -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "probe", "answer", "ok", "got"),
    [
        (endpoint(), "models_listed", "models_chat.json", True, "models chat, smollm2"),
        (endpoint("rerank"), "models_listed", "models_chat.json", False, "models chat, smollm2"),
        (endpoint(), "chat_answer", "chat_answer.json", True, '"The capital of France is Paris.", finish_reason stop'),
        (
            endpoint(reasoning=True),
            "chat_answer",
            "chat_answer_reasoning.json",
            True,
            '"The capital of France is **Paris**.", finish_reason stop',
        ),
        (
            endpoint(reasoning=True),
            "chat_answer",
            "chat_answer_reasoning_cut_off.json",
            False,
            "reasoning but no content, finish_reason length",
        ),
        (
            endpoint(reasoning=True),
            "chat_answer",
            "chat_answer_think_tags.json",
            False,
            "reasoning left in the content (wrong reasoning parser?): "
            '"<think> The user asks for the capital of France, Paris. </think> The capital of France is Paris."',
        ),
        (
            endpoint(),
            "chat_stream",
            "chat_stream.sse",
            True,
            '"The capital of France is Paris.", finish_reason stop, 7 chunks, 8 tokens',
        ),
        (
            endpoint(tools=True),
            "chat_tool_call",
            "chat_tool_call.json",
            True,
            'get_weather({"city": "Paris"}), finish_reason tool_calls',
        ),
        (
            endpoint(tools=True),
            "chat_tool_call",
            "chat_tool_call_bare_string.json",
            False,
            r'arguments is a string, not an object: "\"Paris\""',
        ),
        (
            endpoint(tools=True),
            "chat_tool_call",
            "chat_tool_call_cut_off.json",
            False,
            "cut off before a whole tool call, finish_reason length, content null",
        ),
        (
            endpoint(tools=True),
            "chat_tool_call",
            "chat_tool_call_half_arguments.json",
            False,
            r'arguments are not JSON: "{\"city\": {\"name\": \"Par"',
        ),
        (
            endpoint(tools=True),
            "chat_tool_auto",
            "chat_tool_call_in_content.json",
            False,
            "tool call left in the content (wrong tool-call parser?): "
            r'"<tool_call> {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}} </tool_call>"',
        ),
        (
            endpoint(tools=True),
            "chat_tool_auto",
            "chat_tool_auto_prose.json",
            False,
            "no tool_calls, finish_reason stop, content "
            '"The weather in Paris is currently sunny with a high of 22 degrees."',
        ),
        (endpoint("embedding"), "embedding_dimension", "embeddings.json", True, "dimension 8"),
        (endpoint("embedding", dimension=8), "embedding_dimension", "embeddings.json", True, "dimension 8"),
        (endpoint("embedding", dimension=384), "embedding_dimension", "embeddings.json", False, "dimension 8"),
        (endpoint("embedding"), "embedding_norm", "embeddings.json", True, "norm 1"),
        (
            endpoint("embedding"),
            "embedding_related_en",
            "embeddings.json",
            True,
            "related 0.650, unrelated 0.070",
        ),
        (
            endpoint("embedding", languages=("en", "zh")),
            "embedding_related_zh",
            "embeddings_en_zh.json",
            True,
            "related 0.710, unrelated 0.330",
        ),
        (
            endpoint("embedding", languages=("en", "zh")),
            "embedding_related_zh",
            "embeddings.json",
            False,
            "not each embedding of 0 to 5 once: [0, 1, 2]",
        ),
        (
            endpoint("rerank"),
            "rerank_order",
            "rerank.json",
            True,
            "scores 3: 0.871, 1: 0.392, 4: 0.12, 2: 0.0624, 0: 0.0581",
        ),
        (
            endpoint("rerank"),
            "rerank_order",
            "rerank_wrong_document.json",
            False,
            "document 1 first, scores 1: 0.917, 3: 0.832, 4: 0.531, 2: 0.506, 0: 0.5",
        ),
        (
            endpoint("rerank"),
            "rerank_order",
            "rerank_all_equal.json",
            False,
            "margin 0, scores 3: 0.5, 0: 0.5, 1: 0.5, 2: 0.5, 4: 0.5",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.endswith((".json", ".sse")) else "",
)
def test_judgement(target, probe, answer, ok, got):
    found = row(target, probe, reply_of(answer))
    assert (found["ok"], found["got"]) == (ok, got)


def test_a_row_holds_all_of_the_evidence():
    assert row(endpoint(tools=True), "chat_tool_auto", reply_of("chat_tool_call.json")) == {
        "service": "chat",
        "task": "chat",
        "probe": "chat_tool_auto",
        "ok": True,
        "required": False,
        "expected": "get_weather(city) with arguments that match the schema",
        "got": 'get_weather({"city": "Paris"}), finish_reason tool_calls',
        "seconds": 0.25,
        "url": "http://127.0.0.1:8101/v1/chat/completions",
    }


@pytest.mark.parametrize(
    ("arguments", "got"),
    [
        ({"city": "Paris"}, 'arguments are an object where the API has a string of JSON: {"city": "Paris"}'),
        (None, "arguments are null where the API has a string of JSON: null"),
        ("", 'arguments are not JSON: ""'),
        ('{"city": NaN}', r'arguments are not JSON: "{\"city\": NaN}"'),
        ("[" * 100_000, "arguments are not JSON: "),
        ("{}", 'arguments.city is missing: "{}"'),
        ('{"city": ""}', r'arguments.city is shorter than 1: "{\"city\": \"\"}"'),
        ('{"city": 7}', r'arguments.city is a number, not a string: "{\"city\": 7}"'),
        ('{"city": {"name": "Paris"}}', "arguments.city is an object, not a string: "),
        ('{"city": "Paris", "unit": "C"}', "arguments.unit is not in the schema: "),
        ("[]", 'arguments is an array, not an object: "[]"'),
    ],
    ids=range(11),
)
def test_wrong_tool_arguments(arguments, got):
    def edit(value):
        value["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] = arguments

    found = row(endpoint(tools=True), "chat_tool_call", edited("chat_tool_call.json", edit))
    assert not found["ok"]
    assert found["got"].startswith(got)


@pytest.mark.parametrize(
    ("edit", "got"),
    [
        (lambda c: c["message"]["tool_calls"][0]["function"].update(name="get_time"), 'a call of "get_time"'),
        (lambda c: c["message"]["tool_calls"].append({"id": "x"}), 'a tool call without a function: {"id": "x"}'),
        (lambda c: c["message"].update(tool_calls=None), "no tool_calls, finish_reason tool_calls, content null"),
        (lambda c: c.update(finish_reason="length"), 'finish_reason length after get_weather({"city": "Paris"})'),
        (lambda c: c.update(message=None), "no choices with a message: "),
    ],
    ids=range(5),
)
def test_wrong_tool_calls(edit, got):
    answer = edited("chat_tool_call.json", lambda value: edit(value["choices"][0]))
    found = row(endpoint(tools=True), "chat_tool_call", answer)
    assert not found["ok"]
    assert found["got"].startswith(got)


def test_two_calls_and_finish_reason_stop_are_right():
    def edit(value):
        choice = value["choices"][0]
        choice["finish_reason"] = "stop"
        choice["message"]["tool_calls"] *= 2

    found = row(endpoint(tools=True), "chat_tool_call", edited("chat_tool_call.json", edit))
    assert found["ok"]
    assert found["got"].count("get_weather") == 2


@pytest.mark.parametrize(
    ("content", "finish", "got"),
    [
        (None, "stop", "content null, finish_reason stop"),
        ("", "length", 'content "", finish_reason length'),
        ("!!!!!!!!", "length", '"!!!!!!!!", finish_reason length'),
        ("Lyon.", "stop", '"Lyon.", finish_reason stop'),
        ("Paris", "abort", 'finish_reason abort after "Paris"'),
        ("Paris", None, 'finish_reason None after "Paris"'),
        (["Paris"], "stop", 'content ["Paris"], finish_reason stop'),
    ],
)
def test_wrong_chat_answers(content, finish, got):
    def edit(value):
        value["choices"][0]["message"]["content"] = content
        value["choices"][0]["finish_reason"] = finish

    found = row(endpoint(), "chat_answer", edited("chat_answer.json", edit))
    assert (found["ok"], found["got"]) == (False, got)


def test_older_engines_name_their_reasoning_otherwise():
    def edit(value):
        value["choices"][0]["message"] = {"content": None, "reasoning_content": "Hm."}

    found = row(endpoint(reasoning=True), "chat_answer", edited("chat_answer.json", edit))
    assert found["got"] == "reasoning but no content, finish_reason stop"


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (reply_of("chat_answer.json"), "no events, content type application/json: "),
        (stream_of(chunk("Paris"), chunk("", "stop"), USAGE), 'all in one chunk: "Paris", finish_reason stop'),
        (stream_of(chunk("Par"), chunk("is"), chunk("", "stop")), 'no usage in the last chunk: "Paris", finish_'),
        (stream_of(USAGE, chunk("Par"), chunk("is", "stop")), "no usage in the last chunk: "),
        (stream_of(chunk("Par"), chunk("is", "stop"), USAGE, done=False), "no [DONE] at the end: "),
        (stream_of(chunk("Par"), chunk("is"), USAGE), 'finish_reason None after "Paris"'),
        (stream_of(chunk("Lyon"), chunk(".", "stop"), USAGE), '"Lyon.", finish_reason stop'),
        (
            stream_of(chunk("Par"), {"error": {"message": "EngineDeadError", "code": 500}}),
            "an error in the stream: Eng",
        ),
        (stream_of("Paris"), "an event that is not a JSON object: "),
        (stream_of(), 'content "", finish_reason None'),
        (
            stream_of({"choices": [{"delta": {"reasoning": "Hm"}, "finish_reason": "length"}]}, USAGE),
            "reasoning but no content, finish_reason length",
        ),
    ],
    ids=range(11),
)
def test_wrong_streams(answer, got):
    found = row(endpoint(), "chat_stream", answer)
    assert not found["ok"]
    assert found["got"].startswith(got)


def test_a_stream_of_a_reasoning_model_is_judged_by_its_content():
    thought = {"choices": [{"delta": {"reasoning": "Hm, London?"}, "finish_reason": None}]}
    answer = stream_of(thought, thought, chunk("Par"), chunk("is", "stop"), USAGE)
    assert row(endpoint(reasoning=True), "chat_stream", answer)["ok"]


def vectors(*rows):
    return reply_with({"data": [{"index": index, "embedding": item} for index, item in enumerate(rows)]})


@pytest.mark.parametrize(
    ("probe", "answer", "got"),
    [
        ("embedding_norm", vectors([1.0, 0.0], [0.6, 0.8], [3.0, 4.0]), "norm 5"),
        ("embedding_norm", vectors([1.0, 0.0], [0.6, 0.8], [0.0, 0.0]), "norm 0"),
        ("embedding_norm", vectors([1e308, 1e308], [0.6, 0.8], [0.0, 0.0]), "norm 1.4142e+308"),
        ("embedding_dimension", vectors([1.0, 0.0], [0.6, 0.8], [1.0]), "different dimensions: 2, 2, 1"),
        ("embedding_dimension", vectors([1.0], ["a"], [1.0]), "embedding 1 is not a list of finite numbers"),
        ("embedding_dimension", vectors([1.0], [True], [1.0]), "embedding 1 is not a list of finite numbers"),
        ("embedding_dimension", vectors([1.0], [1.0], []), "embedding 2 is not a list of finite numbers"),
        ("embedding_dimension", vectors([1.0], [10**400], [1.0]), "embedding 1 is not a list of finite numbers"),
        ("embedding_dimension", vectors([1.0], [1.0], "AACAPw=="), "embedding 2 is not a list of finite numbers"),
        ("embedding_dimension", vectors([1.0], [float("nan")], [1.0]), "not JSON, content type application/json: "),
        ("embedding_dimension", reply_with({"data": None}), 'no list of embeddings: "{\\"data\\": null}"'),
        ("embedding_related_en", vectors([1.0, 0.0], [1.0, 0.0], [1.0, 0.0]), "related 1.000, unrelated 1.000"),
        ("embedding_related_en", vectors([0.0, 0.0], [1.0, 0.0], [1.0, 0.0]), "related 0.000, unrelated 0.000"),
        ("embedding_related_en", vectors([1.0, 0.0], [0.0, 1.0], [1.0, 0.0]), "related 0.000, unrelated 1.000"),
    ],
    ids=range(14),
)
def test_wrong_embeddings(probe, answer, got):
    found = row(endpoint("embedding"), probe, answer)
    assert not found["ok"]
    assert found["got"].startswith(got)


def test_embeddings_are_put_in_the_order_of_their_indexes():
    def edit(value):
        value["data"].reverse()

    assert row(endpoint("embedding"), "embedding_related_en", edited("embeddings.json", edit))["ok"]


@pytest.mark.parametrize(
    ("edit", "got"),
    [
        (lambda results: results.pop(), "not each document of 0 to 4 once: [3, 1, 4, 2]"),
        (lambda results: results.append(results[0]), "not each document of 0 to 4 once: [3, 1, 4, 2, 0, 3]"),
        (lambda results: results[1].update(index="1"), 'not each document of 0 to 4 once: [3, "1", 4, 2, 0]'),
        (
            lambda results: results[1].update(relevance_score=None),
            "scores that are not finite numbers: [0.8713, null, ",
        ),
        (lambda results: results.reverse(), "not sorted by score, scores 0: 0.058"),
        (lambda results: results[1].update(relevance_score=0.83), "margin 0.0413, scores "),
    ],
    ids=range(6),
)
def test_wrong_rankings(edit, got):
    found = row(endpoint("rerank"), "rerank_order", edited("rerank.json", lambda value: edit(value["results"])))
    assert not found["ok"]
    assert found["got"].startswith(got)


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (reply_of("error_404.json", 404), "HTTP 404: The model `x` does not exist."),
        (reply_of("error_401.json", 401), "HTTP 401: Unauthorized"),
        (reply_with({"object": "error", "message": "too long", "code": 400}, 400), "HTTP 400: too long"),
        (reply_with({"detail": "Not Found"}, 404), "HTTP 404: Not Found"),
        (reply_with({"detail": [{"msg": "field required"}]}, 422), 'HTTP 422: {"detail": [{"msg": "field required"}]}'),
        (Reply(503, "text/html", b"<h1>no\nserver</h1>"), "HTTP 503: <h1>no server</h1>"),
        (Reply(502), "HTTP 502"),
        (Reply(204), "HTTP 204"),
        (Reply(200, "text/html", b"<h1>Login</h1>"), 'not JSON, content type text/html: "<h1>Login</h1>"'),
        (Reply(200), 'not JSON, content type not given: ""'),
        (Reply(200, JSON, b"[]"), 'an array where a JSON object belongs: "[]"'),
    ],
    ids=range(11),
)
def test_errors_of_the_server_are_evidence(answer, got):
    for target in (endpoint(tools=True), endpoint("embedding"), endpoint("rerank")):
        for step in _probes.plan(target):
            for found in _probes.judge(target, step, answer, 0.1):
                assert not found["ok"]
                if not step.stream or answer.status != 200:
                    assert found["got"] == got


def test_what_came_is_cut_and_cleaned():
    answer = reply_with({"error": {"message": "\x1b[31m\ud800 " + "x" * 500}}, 500)
    got = row(endpoint(), "chat_answer", answer)["got"]
    assert got.startswith("HTTP 500: [31m? xxx")
    assert got.endswith("...")
    assert len(got) == 200


def test_no_answer_is_evidence():
    target = endpoint("embedding")
    rows = _probes.unanswered(target, _probes.plan(target)[1], "connection refused", 0.0)
    assert [(item["probe"], item["ok"], item["got"]) for item in rows] == [
        ("embedding_dimension", False, "connection refused"),
        ("embedding_norm", False, "connection refused"),
        ("embedding_related_en", False, "connection refused"),
    ]


# --- whatever comes ---------------------------------------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
ALL_TARGETS = [endpoint(tools=True), endpoint("embedding", languages=("en", "zh")), endpoint("rerank")]
RIGHT_ANSWERS = [path.name for path in sorted(FIXTURES.glob("*.json"))]


@st.composite
def damaged_answers(draw):
    """A right answer in which one place holds something else."""
    value = json.loads((FIXTURES / draw(st.sampled_from(RIGHT_ANSWERS))).read_text(encoding="utf-8"))
    place = value
    while True:
        key = draw(st.sampled_from(range(len(place)) if isinstance(place, list) else sorted(place)))
        if not isinstance(place[key], (dict, list)) or not place[key] or draw(st.booleans()):
            place[key] = draw(JSON_VALUES)
            return value
        place = place[key]


@given(value=JSON_VALUES | damaged_answers(), status=st.sampled_from([200, 200, 200, 404]))
def test_any_answer_is_judged_without_an_exception(value, status):
    text = json.dumps(value)
    answer = Reply(status, JSON, text.encode(), (text, "[DONE]"))
    for target in ALL_TARGETS:
        for step in _probes.plan(target):
            rows = _probes.judge(target, step, answer, 0.0)
            assert [item["probe"] for item in rows] == [check.probe for check in step.checks]
            for item in rows:
                assert 0 < len(item["got"].encode("utf-8").decode("utf-8")) <= 200


@given(body=st.binary(max_size=64), status=st.integers(200, 599))
def test_any_bytes_are_judged_without_an_exception(body, status):
    for target in ALL_TARGETS:
        for step in _probes.plan(target):
            assert not any(item["ok"] for item in _probes.judge(target, step, Reply(status, "", body), 0.0))


# --- the schema validator ---------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["city", "unit", "day"])


def schemas():
    text = st.builds(lambda least: {"type": "string", "minLength": least}, st.integers(0, 3))

    def objects(inner):
        return st.builds(
            lambda properties, required, extra: {
                "type": "object",
                "properties": properties,
                "required": sorted(required),
                **({"additionalProperties": False} if extra else {}),
            },
            st.dictionaries(NAMES, inner, max_size=3),
            st.sets(NAMES, max_size=2),
            st.booleans(),
        )

    return st.recursive(text, objects, max_leaves=6)


def values():
    leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=4)
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3))


@given(schema=schemas(), value=values())
def test_the_validator_agrees_with_jsonschema(schema, value):
    problem = _probes.schema_problem(value, schema)
    assert (problem is None) == jsonschema.Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize("schema", [{"type": "integer"}, {"type": "string", "pattern": "^a"}, {"enum": ["a"]}, {}])
def test_the_validator_refuses_what_it_does_not_know(schema):
    with pytest.raises(ValueError, match="schema not supported"):
        _probes.schema_problem("a", schema)


def test_the_schema_of_the_probe_is_one_the_validator_knows():
    assert _probes.schema_problem({"city": "Paris"}, _probes.TOOL_SCHEMA) is None
    jsonschema.Draft202012Validator.check_schema(_probes.TOOL_SCHEMA)
