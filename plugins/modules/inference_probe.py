#!/usr/bin/python
# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: inference_probe
short_description: Ask inference endpoints questions with known answers
version_added: 0.1.0
description:
  - Asks OpenAI-compatible endpoints questions with known answers and returns what came back as evidence.
  - An HTTP status of 200 proves little. A tool call whose arguments do not match the schema, a stream in one piece,
    embeddings that are not of unit length or a reranker that puts the wrong document first are found.
  - Every endpoint is asked for its list of models (C(models_listed)).
  - A C(chat) endpoint is asked a fact (C(chat_answer)) and the same as a stream (C(chat_stream)). With
    O(endpoints[].tools) it is asked for a tool call that it must make (C(chat_tool_call)) and for one that it may make
    (C(chat_tool_auto), not required).
  - An C(embedding) endpoint is judged by C(embedding_dimension), C(embedding_norm) and C(embedding_related_<language>),
    all out of one request.
  - A C(rerank) endpoint orders five documents in English (C(rerank_order)) and Chinese (C(rerank_order_zh)).
  - Endpoints are probed at the same time, the requests to one endpoint one after the other.
  - Once an endpoint gives no answer at all, the rest of its probes count as failed without being tried.
options:
  endpoints:
    description: What to probe.
    type: list
    elements: dict
    required: true
    suboptions:
      service:
        description: Name of the service, for the evidence.
        type: str
        required: true
      task:
        description: What the service does.
        type: str
        required: true
        choices: [chat, embedding, rerank]
      base_url:
        description: Address of the endpoint. V(/v1) at its end is taken off.
        type: str
        required: true
      model:
        description: Served name of the model. Defaults to the name of the service.
        type: str
      languages:
        description:
          - Languages the model understands. There are sentences for V(en) and V(zh), others are left out.
          - Where none is left, English is used and what depends on the language is not required.
        type: list
        elements: str
        default: [en]
      tools:
        description: Whether a chat service calls tools.
        type: bool
        default: false
      reasoning:
        description: Whether a chat model thinks before it answers. It is given more tokens then.
        type: bool
        default: false
      dimension:
        description: Length of an embedding. Without it any length is right that is the same for all.
        type: int
      api_key:
        description: Key of this endpoint, sent as a bearer token.
        type: str
  api_key:
    description: Key of the endpoints that have none of their own.
    type: str
  timeout:
    description: Seconds that one request may take.
    type: float
    default: 60.0
  retries:
    description: How often a request is tried again that found no connection. An answer is never asked for again.
    type: int
    default: 2
  delay:
    description: Seconds between tries.
    type: float
    default: 2.0
  use_proxy:
    description:
      - Use the proxies of the environment. Off, so that a company's proxy does not get requests for its own LAN.
    type: bool
    default: false
  validate_certs:
    description: Check the certificates of https endpoints.
    type: bool
    default: true
  ca_path:
    description: File of PEM certificates to check https endpoints with, on the host that probes.
    type: path
  fail_on_error:
    description: Fail when a required probe fails, with one line for each.
    type: bool
    default: false
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
    details: Probing reads only. It is done in check mode, too.
  diff_mode:
    description: Will return details on what has changed when in diff mode.
    support: none
author:
  - llmops.fleet contributors (@llmops)
"""

EXAMPLES = r"""
- name: Probe three services of this host
  llmops.fleet.inference_probe:
    endpoints:
      - service: chat
        task: chat
        base_url: http://127.0.0.1:8101
        tools: true
      - service: embedding
        task: embedding
        base_url: http://127.0.0.1:8102
        languages: [en, zh]
        dimension: 1024
      - service: rerank
        task: rerank
        base_url: http://127.0.0.1:8103
  register: probe

- name: Fail unless a service behind the gateway answers rightly
  llmops.fleet.inference_probe:
    endpoints:
      - service: chat
        task: chat
        base_url: https://llm.example.com/v1
        model: qwen3-32b
        reasoning: true
    api_key: "{{ vault_llm_api_key }}"
    fail_on_error: true
"""

RETURN = r"""
evidence:
  description: One item for each probe, in the order of the endpoints. Several probes may rest on one request.
  returned: always
  type: list
  elements: dict
  contains:
    service:
      description: Name of the service.
      type: str
      sample: chat
    task:
      description: What the service does.
      type: str
      sample: chat
    probe:
      description: Name of the probe.
      type: str
      sample: chat_tool_call
    ok:
      description: Whether the answer is right.
      type: bool
      sample: true
    required:
      description: Whether a wrong answer is a fault of the service. Otherwise it tells about the model.
      type: bool
      sample: true
    expected:
      description: The right answer.
      type: str
      sample: get_weather(city) with arguments that match the schema
    got:
      description: What came, at most 200 characters.
      type: str
      sample: 'get_weather({"city": "Paris"}), finish_reason tool_calls'
    seconds:
      description: Seconds that the request took, retries left out.
      type: float
      sample: 0.412
    url:
      description: What was asked.
      type: str
      sample: http://127.0.0.1:8101/v1/chat/completions
ok:
  description: Whether every required probe is ok.
  returned: always
  type: bool
  sample: true
"""

import time
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.fleet.plugins.module_utils import _probes
from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError, SpecErrors
from ansible_collections.llmops.fleet.plugins.module_utils._evidence import failure_lines, is_failure
from ansible_collections.llmops.fleet.plugins.module_utils._http import Client, TransportError

MAX_WORKERS = 16


def argument_spec():
    endpoint = {
        "service": {"type": "str", "required": True},
        "task": {"type": "str", "required": True, "choices": list(_probes.TASKS)},
        "base_url": {"type": "str", "required": True},
        "model": {"type": "str"},
        "languages": {"type": "list", "elements": "str", "default": ["en"]},
        "tools": {"type": "bool", "default": False},
        "reasoning": {"type": "bool", "default": False},
        "dimension": {"type": "int"},
        "api_key": {"type": "str", "no_log": True},
    }
    return {
        "endpoints": {"type": "list", "elements": "dict", "required": True, "options": endpoint},
        "api_key": {"type": "str", "no_log": True},
        "timeout": {"type": "float", "default": 60.0},
        "retries": {"type": "int", "default": 2},
        "delay": {"type": "float", "default": 2.0},
        "use_proxy": {"type": "bool", "default": False},
        "validate_certs": {"type": "bool", "default": True},
        "ca_path": {"type": "path"},
        "fail_on_error": {"type": "bool", "default": False},
    }


def prepare(params):
    """Endpoints with their clients. Every mistake in the arguments is told at once, before anything is asked."""
    errors = {}
    for name, least in (("timeout", 0.001), ("retries", 0), ("delay", 0)):
        if not params[name] >= least:
            problem = f"must be {'more than 0' if least else '0 or more'}, not {params[name]}"
            errors[name] = SpecError(name, problem)
    targets = []
    for index, raw in enumerate(params["endpoints"]):
        path = f"endpoints[{index}]"
        key = raw["api_key"] or params["api_key"]
        try:
            endpoint = _probes.Endpoint.parse(raw, path)
            client = Client(params["timeout"], key, params["use_proxy"], params["validate_certs"], params["ca_path"])
            targets.append((endpoint, client))
        except SpecError as exc:
            own_key = exc.path == "api_key" and raw["api_key"]
            error = SpecError(f"{path}.api_key", exc.problem) if own_key else exc
            errors[error.path] = error
    if errors:
        raise SpecErrors(list(errors.values()))
    return targets


def send(client, step, retries, delay):
    """The answer and its seconds. Only a missing connection is worth another try: engines do not repeat themselves."""
    for left in range(retries, -1, -1):
        start = time.monotonic()
        try:
            return client.send(step.method, step.url, step.payload, step.stream), time.monotonic() - start, None
        except TransportError as exc:
            seconds = time.monotonic() - start
            if exc.kind != "connection" or not left:
                return None, seconds, str(exc)
        time.sleep(delay)
    raise AssertionError("not reached")


def probe(endpoint, client, retries, delay):
    rows = []
    reason = None
    for step in _probes.plan(endpoint):
        if reason:
            rows += _probes.unanswered(endpoint, step, f"not tried: {reason}", 0.0)
            continue
        reply, seconds, reason = send(client, step, retries, delay)
        if reply:
            rows += _probes.judge(endpoint, step, reply, seconds)
        else:
            rows += _probes.unanswered(endpoint, step, reason, seconds)
    return rows


def main():
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        targets = prepare(module.params)
    except SpecErrors as exc:
        module.fail_json(msg=str(exc), evidence=[], ok=False)
    retries, delay = module.params["retries"], module.params["delay"]
    with ThreadPoolExecutor(max_workers=min(MAX_WORKERS, len(targets)) or 1) as pool:
        found = pool.map(lambda target: probe(*target, retries, delay), targets)
        evidence = [row for rows in found for row in rows]
    result = {"changed": False, "evidence": evidence, "ok": not any(is_failure(row) for row in evidence)}
    if module.params["fail_on_error"] and not result["ok"]:
        module.fail_json(msg="\n".join(failure_lines(evidence)), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
