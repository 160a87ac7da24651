# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Known-answer probes: what is asked of an endpoint, and whether the answer is right.

Pure: ``plan`` gives the requests of an endpoint, ``judge`` turns the answer to one of them into evidence.
A judgement never raises, whatever the answer holds: a wrong answer is evidence.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable
from urllib.parse import urlsplit

from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError
from ansible_collections.llmops.fleet.plugins.module_utils._spec import TASKS

GOT_LENGTH = 200
MAX_TOKENS = 64
TOOL_MAX_TOKENS = 128
# A reasoning model thinks first, and an answer cut off in its thoughts says nothing about the service
REASONING_MAX_TOKENS = 2048
EMBEDDING_MARGIN = 0.1
RERANK_MARGIN = 0.05
NORM_TOLERANCE = 1e-3

QUESTION = "What is the capital of France?"
ANSWER = re.compile("paris", re.IGNORECASE)
TOOL_QUESTION = "What is the weather in Paris?"
TOOL_NAME = "get_weather"
TOOL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 1, "description": "The city's name"}},
    "required": ["city"],
    "additionalProperties": False,
}
# Per language: a sentence, one that means the same in other words, one about something else
SENTENCES = {
    "en": (
        "A cat is sleeping on the sofa.",
        "A kitten is napping on the couch.",
        "The central bank raised its interest rates.",
    ),
    "zh": (
        "一只猫正在沙发上睡觉。",
        "小猫在沙发上打盹。",
        "中央银行上调了利率。",
    ),
}
# Per language: a question and five documents, of which RIGHT_DOCUMENT answers it
DOCUMENTS = {
    "en": (
        QUESTION,
        (
            "Bread is baked from flour, water and yeast.",
            "Berlin is the largest city in Germany.",
            "Plants turn sunlight into chemical energy.",
            "Paris is the capital of France.",
            "The Great Wall of China is thousands of kilometres long.",
        ),
    ),
    "zh": (
        "法国的首都是哪座城市",
        (
            "面包由面粉、水和酵母烤制而成。",
            "柏林是德国最大的城市。",
            "植物把阳光转化为化学能。",
            "巴黎是法国的首都。",
            "中国的长城绵延数千公里。",
        ),
    ),
}
RIGHT_DOCUMENT = 3

Judgement = tuple[bool, str]
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class _Wrong(Exception):
    """The answer is not the expected one; the text says what came instead."""


@dataclass(frozen=True)
class Reply:
    """An HTTP answer of any status; ``events`` holds the data of each server-sent event."""

    status: int
    content_type: str = ""
    body: bytes = b""
    events: tuple[str, ...] = ()


@dataclass(frozen=True)
class Endpoint:
    """One served model at one address."""

    service: str
    task: str
    base_url: str
    model: str
    languages: tuple[str, ...] = ("en",)
    tools: bool = False
    reasoning: bool = False
    dimension: int | None = None

    @classmethod
    def parse(cls, raw: Mapping[str, Any], path: str) -> Endpoint:
        """From an item of the module's list; ``path`` names the item in errors."""
        task = raw["task"]
        if task not in TASKS:
            raise SpecError(f"{path}.task", f"no probes for {task!r}; known: {', '.join(TASKS)}")
        if raw.get("dimension") is not None and raw["dimension"] < 1:
            raise SpecError(f"{path}.dimension", f"must be at least 1, not {raw['dimension']}")
        return cls(
            service=raw["service"],
            task=task,
            base_url=_base_url(raw["base_url"], f"{path}.base_url"),
            model=raw.get("model") or raw["service"],
            languages=tuple(raw["languages"]) if raw.get("languages") is not None else ("en",),
            tools=bool(raw.get("tools")),
            reasoning=bool(raw.get("reasoning")),
            dimension=raw.get("dimension"),
        )


@dataclass(frozen=True)
class Check:
    """One thing to find out from an answer."""

    probe: str
    expected: str
    find: Callable[[Reply], str]
    required: bool = True


@dataclass(frozen=True)
class Step:
    """One request and what is judged by its answer."""

    method: str
    url: str
    checks: tuple[Check, ...]
    payload: Mapping[str, Any] | None = None
    stream: bool = False


def plan(endpoint: Endpoint) -> list[Step]:
    """The requests of an endpoint, in order."""
    tasks = {"chat": _chat_steps, "embedding": _embedding_steps, "rerank": _rerank_steps}
    return [_models_step(endpoint), *tasks[endpoint.task](endpoint)]


def judge(endpoint: Endpoint, step: Step, reply: Reply, seconds: float) -> list[dict[str, Any]]:
    """Evidence out of the answer to a step. Several rows may rest on one request, and then show the same time."""
    return [_row(endpoint, step, check, *_judgement(check, reply), seconds) for check in step.checks]


def unanswered(endpoint: Endpoint, step: Step, reason: str, seconds: float) -> list[dict[str, Any]]:
    """Evidence for a step that got no answer, for whatever reason."""
    return [_row(endpoint, step, check, False, reason, seconds) for check in step.checks]


def _row(endpoint: Endpoint, step: Step, check: Check, ok: bool, got: str, seconds: float) -> dict[str, Any]:
    return {
        "service": endpoint.service,
        "task": endpoint.task,
        "probe": check.probe,
        "ok": ok,
        "required": check.required,
        "expected": check.expected,
        "got": shorten(got),
        "seconds": round(seconds, 3),
        "url": step.url,
    }


def _judgement(check: Check, reply: Reply) -> Judgement:
    try:
        if reply.status != 200:
            raise _Wrong(http_error(reply))
        return True, check.find(reply)
    except _Wrong as exc:
        return False, str(exc)
    except RecursionError:
        return False, "an answer nested too deeply to be read"


def shorten(text: str, length: int = GOT_LENGTH) -> str:
    """On one line, without control characters and lone surrogates, at most ``length`` characters."""
    text = " ".join(_CONTROL.sub(" ", text).encode("utf-8", "replace").decode("utf-8").split())
    return text if len(text) <= length else text[: length - 3] + "..."


def http_error(reply: Reply) -> str:
    """A status and the server's own words for it: vLLM nests its message, older ones and FastAPI do not."""
    try:
        body = _json(reply)
    except _Wrong:
        body = None
    message: Any = None
    if isinstance(body, dict):
        error = body.get("error")
        message = error.get("message") if isinstance(error, dict) else error
        message = message or body.get("message") or body.get("detail")
    text = message if isinstance(message, str) and message else reply.body[:GOT_LENGTH].decode("utf-8", "replace")
    return f"HTTP {reply.status}: {text}".rstrip(": ")


def schema_problem(value: Any, schema: Mapping[str, Any], path: str = "arguments") -> str | None:
    """What about ``value`` breaks the schema, or None.

    Knows the part of JSON Schema that the probes use, and refuses the rest instead of passing it by.
    """
    unknown = set(schema) - {"type", "properties", "required", "additionalProperties", "minLength", "description"}
    if unknown or schema.get("type") not in ("object", "string"):
        raise ValueError(f"{path}: schema not supported: {sorted(unknown) or schema.get('type')}")
    if schema["type"] == "string":
        if not isinstance(value, str):
            return f"{path} is {_kind(value)}, not a string"
        if len(value) < schema.get("minLength", 0):
            return f"{path} is shorter than {schema['minLength']}"
        return None
    if not isinstance(value, dict):
        return f"{path} is {_kind(value)}, not an object"
    properties = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in value:
            return f"{path}.{name} is missing"
    for name, item in value.items():
        if name in properties:
            problem = schema_problem(item, properties[name], f"{path}.{name}")
            if problem:
                return problem
        elif schema.get("additionalProperties") is False:
            return f"{path}.{name} is not in the schema"
    return None


# --- requests -------------------------------------------------------------------------------------------------------


def _base_url(url: str, path: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SpecError(path, f"not an http or https URL with a host: {url!r}")
    if parts.username or parts.password:
        raise SpecError(path, "holds credentials; give them as api_key")
    if parts.query or parts.fragment:
        raise SpecError(path, f"must end before '?' or '#': {url!r}")
    # As given to OpenAI's clients: ending in /v1
    return re.sub(r"(/v1)?/*$", "", url.rstrip("/"))


def _models_step(endpoint: Endpoint) -> Step:
    check = Check("models_listed", f"{endpoint.model!r} in the list", lambda reply: _find_model(reply, endpoint.model))
    return Step("GET", f"{endpoint.base_url}/v1/models", (check,))


def _chat_steps(endpoint: Endpoint) -> list[Step]:
    url = f"{endpoint.base_url}/v1/chat/completions"

    def body(question: str, max_tokens: int, **more: Any) -> dict[str, Any]:
        return {
            "model": endpoint.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": REASONING_MAX_TOKENS if endpoint.reasoning else max_tokens,
            **more,
        }

    # strict: without it vLLM pins the arguments to the schema only under --tool-strict-level parameter
    function = {
        "name": TOOL_NAME,
        "description": "Current weather in a city",
        "parameters": TOOL_SCHEMA,
        "strict": True,
    }
    tools = [{"type": "function", "function": function}]
    call = f"{TOOL_NAME}(city) with arguments that match the schema"
    expected = f"/{ANSWER.pattern}/i"
    answer = Check("chat_answer", expected, lambda reply: _find_answer(reply, endpoint.reasoning))
    stream = Check(
        "chat_stream",
        f"{expected} in several chunks, usage, [DONE]",
        lambda reply: _find_stream(reply, endpoint.reasoning),
    )
    steps = [
        Step("POST", url, (answer,), body(QUESTION, MAX_TOKENS)),
        Step(
            "POST",
            url,
            (stream,),
            body(QUESTION, MAX_TOKENS, stream=True, stream_options={"include_usage": True}),
            stream=True,
        ),
    ]
    if endpoint.tools:
        steps += [
            Step("POST", url, (check,), body(TOOL_QUESTION, TOOL_MAX_TOKENS, tools=tools, tool_choice=choice))
            for choice, check in (
                ("required", Check("chat_tool_call", call, _find_tool_call)),
                # Whether a model calls a tool of its own accord is the model's doing, not the service's
                ("auto", Check("chat_tool_auto", call, _find_tool_call, required=False)),
            )
        ]
    return steps


def _embedding_steps(endpoint: Endpoint) -> list[Step]:
    languages, required = _languages(endpoint)
    texts = [sentence for language in languages for sentence in SENTENCES[language]]
    dimension = endpoint.dimension

    def related(place: int, language: str) -> Check:
        return Check(
            f"embedding_related_{language}",
            f"cosine of the related pair above the unrelated one's by {EMBEDDING_MARGIN:g}",
            lambda reply: _find_related(_vectors(reply, len(texts))[3 * place : 3 * place + 3]),
            required,
        )

    checks = (
        Check(
            "embedding_dimension",
            f"dimension {dimension}" if dimension else "one dimension for all texts",
            lambda reply: _find_dimension(_vectors(reply, len(texts)), dimension),
        ),
        Check("embedding_norm", "norm 1 +- 0.001", lambda reply: _find_norm(_vectors(reply, len(texts)))),
        *(related(place, language) for place, language in enumerate(languages)),
    )
    payload = {"model": endpoint.model, "input": texts, "encoding_format": "float"}
    return [Step("POST", f"{endpoint.base_url}/v1/embeddings", checks, payload)]


def _rerank_steps(endpoint: Endpoint) -> list[Step]:
    languages, required = _languages(endpoint)
    steps = []
    for language in languages:
        question, documents = DOCUMENTS[language]
        check = Check(
            "rerank_order" if language == "en" else f"rerank_order_{language}",
            f"document {RIGHT_DOCUMENT} first by {RERANK_MARGIN:g} or more",
            lambda reply: _find_order(reply, len(DOCUMENTS["en"][1])),
            required,
        )
        payload = {"model": endpoint.model, "query": question, "documents": list(documents)}
        steps.append(Step("POST", f"{endpoint.base_url}/v1/rerank", (check,), payload))
    return steps


def _languages(endpoint: Endpoint) -> tuple[list[str], bool]:
    """The languages to probe in, and whether the model claims them: with no sentences in its own, English is a note."""
    known = [language for language in SENTENCES if language in endpoint.languages]
    return known or ["en"], bool(known)


# --- answers --------------------------------------------------------------------------------------------------------


def _find_model(reply: Reply, model: str) -> str:
    data = _object(reply).get("data")
    if not isinstance(data, list):
        raise _Wrong(f"no list of models: {_text(reply)}")
    names = [item.get("id") for item in data if isinstance(item, dict)]
    listed = "models " + ", ".join(str(name) for name in names) if names else "no models"
    if model not in names:
        raise _Wrong(listed)
    return listed


def _find_answer(reply: Reply, reasoning: bool) -> str:
    choice, message = _choice(reply)
    content = message.get("content")
    thoughts = message.get("reasoning") or message.get("reasoning_content")
    finish = choice.get("finish_reason")
    return _right_text(content, finish, bool(thoughts), reasoning)


def _right_text(content: Any, finish: Any, thoughts: bool, reasoning: bool) -> str:
    ending = f"finish_reason {finish}"
    if not isinstance(content, str) or not content.strip():
        seen = "reasoning but no content" if thoughts else f"content {json.dumps(content)}"
        raise _Wrong(f"{seen}, {ending}")
    if reasoning and ("<think>" in content or "</think>" in content):
        raise _Wrong(f"reasoning left in the content (wrong reasoning parser?): {_quote(content)}")
    if not ANSWER.search(content):
        raise _Wrong(f"{_quote(content)}, {ending}")
    if finish not in ("stop", "length"):
        raise _Wrong(f"{ending} after {_quote(content)}")
    return f"{_quote(content)}, {ending}"


def _find_stream(reply: Reply, reasoning: bool) -> str:
    if not reply.events:
        raise _Wrong(f"no events, content type {reply.content_type or 'not given'}: {_text(reply)}")
    chunks = [_chunk(event) for event in reply.events if event != "[DONE]"]
    deltas = [_delta(chunk) for chunk in chunks]
    contents = [delta["content"] for delta in deltas if isinstance(delta.get("content"), str) and delta["content"]]
    thoughts = any(delta.get("reasoning") or delta.get("reasoning_content") for delta in deltas)
    reasons = [choice.get("finish_reason") for chunk in chunks for choice in _choices(chunk)]
    finish = next((reason for reason in reasons if reason), None)
    text = _right_text("".join(contents), finish, thoughts, reasoning)
    usage = chunks[-1].get("usage") if chunks else None
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if len(contents) < 2:
        raise _Wrong(f"all in one chunk: {text}")
    if not isinstance(tokens, int) or tokens < 1:
        raise _Wrong(f"no usage in the last chunk: {text}")
    if reply.events[-1] != "[DONE]":
        raise _Wrong(f"no [DONE] at the end: {text}")
    return f"{text}, {len(contents)} chunks, {tokens} tokens"


def _chunk(event: str) -> dict[str, Any]:
    chunk = _parse(event)
    if not isinstance(chunk, dict):
        raise _Wrong(f"an event that is not a JSON object: {_quote(event)}")
    # vLLM reports an error in mid-stream as an event, under HTTP 200
    error = chunk.get("error")
    if error:
        message = error.get("message") if isinstance(error, dict) else error
        raise _Wrong(f"an error in the stream: {message}")
    return chunk


def _choices(chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = chunk.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _delta(chunk: Mapping[str, Any]) -> dict[str, Any]:
    deltas = [choice.get("delta") for choice in _choices(chunk)]
    return deltas[0] if deltas and isinstance(deltas[0], dict) else {}


def _find_tool_call(reply: Reply) -> str:
    choice, message = _choice(reply)
    finish, content, calls = choice.get("finish_reason"), message.get("content"), message.get("tool_calls")
    ending = f"finish_reason {finish}"
    if not isinstance(calls, list) or not calls:
        shown = f"{ending}, content {json.dumps(content, ensure_ascii=False)}"
        if finish == "length":
            raise _Wrong(f"cut off before a whole tool call, {shown}")
        if isinstance(content, str) and ("<tool_call>" in content or TOOL_NAME in content):
            raise _Wrong(f"tool call left in the content (wrong tool-call parser?): {_quote(content)}")
        raise _Wrong(f"no tool_calls, {shown}")
    right = ", ".join(_right_call(call) for call in calls)
    if finish not in ("tool_calls", "stop"):
        raise _Wrong(f"{ending} after {right}")
    return f"{right}, {ending}"


def _right_call(call: Any) -> str:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise _Wrong(f"a tool call without a function: {json.dumps(call, ensure_ascii=False)}")
    if function.get("name") != TOOL_NAME:
        raise _Wrong(f"a call of {json.dumps(function.get('name'), ensure_ascii=False)}")
    arguments = function.get("arguments")
    shown = json.dumps(arguments, ensure_ascii=False)
    if not isinstance(arguments, str):
        raise _Wrong(f"arguments are {_kind(arguments)} where the API has a string of JSON: {shown}")
    value = _parse(arguments)
    if value is _NOT_JSON:
        raise _Wrong(f"arguments are not JSON: {shown}")
    problem = schema_problem(value, TOOL_SCHEMA)
    if problem:
        raise _Wrong(f"{problem}: {shown}")
    return f"{TOOL_NAME}({arguments})"


def _vectors(reply: Reply, count: int) -> list[list[float]]:
    data = _object(reply).get("data")
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise _Wrong(f"no list of embeddings: {_text(reply)}")
    _once_each([item.get("index") for item in data], count, "embedding")
    vectors = [item.get("embedding") for item in sorted(data, key=lambda item: item["index"])]
    for index, vector in enumerate(vectors):
        if not isinstance(vector, list) or not vector or not all(_is_finite(number) for number in vector):
            raise _Wrong(f"embedding {index} is not a list of finite numbers")
    if len({len(vector) for vector in vectors}) > 1:
        raise _Wrong(f"different dimensions: {', '.join(str(len(vector)) for vector in vectors)}")
    return vectors


def _find_dimension(vectors: Sequence[Sequence[float]], dimension: int | None) -> str:
    got = f"dimension {len(vectors[0])}"
    if dimension and len(vectors[0]) != dimension:
        raise _Wrong(got)
    return got


def _find_norm(vectors: Sequence[Sequence[float]]) -> str:
    # The vector furthest from the unit sphere
    norm = max((math.hypot(*vector) for vector in vectors), key=lambda norm: abs(norm - 1))
    got = f"norm {norm:.5g}"
    if abs(norm - 1) > NORM_TOLERANCE:
        raise _Wrong(got)
    return got


def _find_related(vectors: Sequence[Sequence[float]]) -> str:
    base, near, far = vectors
    related, unrelated = _cosine(base, near), _cosine(base, far)
    got = f"related {related:.3f}, unrelated {unrelated:.3f}"
    if related - unrelated < EMBEDDING_MARGIN:
        raise _Wrong(got)
    return got


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    norm, other_norm = math.hypot(*one), math.hypot(*other)
    if not norm or not other_norm:
        return 0.0
    # Scaled first: a product of very large numbers would not be finite
    return sum(a / norm * (b / other_norm) for a, b in zip(one, other))


def _find_order(reply: Reply, count: int) -> str:
    results = _object(reply).get("results")
    if not isinstance(results, list) or not all(isinstance(item, dict) for item in results):
        raise _Wrong(f"no list of results: {_text(reply)}")
    _once_each([item.get("index") for item in results], count, "document")
    scores = [item.get("relevance_score") for item in results]
    if not all(_is_finite(score) for score in scores):
        raise _Wrong(f"scores that are not finite numbers: {json.dumps(scores)}")
    got = "scores " + ", ".join(f"{item['index']}: {item['relevance_score']:.3g}" for item in results)
    if scores != sorted(scores, reverse=True):
        raise _Wrong(f"not sorted by score, {got}")
    if results[0]["index"] != RIGHT_DOCUMENT:
        raise _Wrong(f"document {results[0]['index']} first, {got}")
    if scores[0] - scores[1] < RERANK_MARGIN:
        raise _Wrong(f"margin {scores[0] - scores[1]:.3g}, {got}")
    return got


# --- JSON -----------------------------------------------------------------------------------------------------------

_NOT_JSON = object()


def _parse(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _json(reply: Reply) -> Any:
    value = _parse(reply.body.decode("utf-8", "replace"))
    if value is _NOT_JSON:
        raise _Wrong(f"not JSON, content type {reply.content_type or 'not given'}: {_text(reply)}")
    return value


def _object(reply: Reply) -> dict[str, Any]:
    value = _json(reply)
    if not isinstance(value, dict):
        raise _Wrong(f"{_kind(value)} where a JSON object belongs: {_text(reply)}")
    return value


def _choice(reply: Reply) -> tuple[dict[str, Any], dict[str, Any]]:
    choices = _choices(_object(reply))
    message = choices[0].get("message") if choices else None
    if not isinstance(message, dict):
        raise _Wrong(f"no choices with a message: {_text(reply)}")
    return choices[0], message


def _once_each(indexes: Sequence[Any], count: int, what: str) -> None:
    whole = all(isinstance(index, int) and not isinstance(index, bool) for index in indexes)
    if not whole or sorted(indexes) != list(range(count)):
        raise _Wrong(f"not each {what} of 0 to {count - 1} once: {json.dumps(list(indexes))}")


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _kind(value: Any) -> str:
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    kind = kinds.get(type(value))
    return f"a{'n' if kind and kind[0] in 'ao' else ''} {kind}" if kind else "null"


def _quote(text: str) -> str:
    return json.dumps(shorten(text, 120), ensure_ascii=False)


def _text(reply: Reply) -> str:
    return _quote(reply.body[:GOT_LENGTH].decode("utf-8", "replace"))


def probe_endpoints(
    services: Sequence[Mapping[str, Any]],
    models: Mapping[str, Mapping[str, Any]],
    status: Mapping[str, Mapping[str, Any]],
    wildcards: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The endpoints of a host's present services, as the module inference_probe takes them.

    ``models``: the fleet's models by name. ``status``: what is known of them on the host; an embedding has the
    length of the model's hidden size unless the service says another. ``wildcards``: where a listener on
    ``0.0.0.0`` or ``::`` is reached from where the probes are sent.
    """
    out = []
    for service in services:
        if service["state"] != "present":
            continue
        address = wildcards.get(service["listen"], service["listen"])
        facts = (status.get(service["model"]) or {}).get("facts") or {}
        dimension = service["dimension"] or facts.get("hidden_size")
        out.append(
            {
                "service": service["name"],
                "task": service["task"],
                "base_url": f"http://{f'[{address}]' if ':' in address else address}:{service['port']}",
                "model": service["name"],
                "languages": list(models[service["model"]]["languages"]),
                "tools": service["tools"] is not False,
                "reasoning": service["reasoning"] is not False,
                "dimension": dimension if service["task"] == "embedding" else None,
            }
        )
    return out
