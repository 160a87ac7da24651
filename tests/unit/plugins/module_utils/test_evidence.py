# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from xml.etree import ElementTree

import pytest
from ansible_collections.llmops.fleet.plugins.module_utils import _evidence
from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError
from hypothesis import given
from hypothesis import strategies as st


def row(host="node1", service="chat", probe="chat_answer", ok=True, **more):
    return {
        "host": host,
        "service": service,
        "task": "chat",
        "probe": probe,
        "ok": ok,
        "required": True,
        "expected": "/paris/i",
        "got": '"Paris."',
        "seconds": 0.5,
        "url": "http://127.0.0.1:8101/v1/chat/completions",
        **more,
    }


EVIDENCE = [
    row("node2", ok=False, got='"Lyon."'),
    row("node1", seconds=12.345),
    row("node1", probe="chat_tool_auto", ok=False, required=False, got="no tool_calls"),
    row("node1", "embedding", "embedding_norm", got="norm 1"),
]


def test_table():
    assert _evidence.table_lines(EVIDENCE) == [
        "host   service    probe           result  seconds  got",
        'node1  chat       chat_answer     ok        12.35  "Paris."',
        "node1  chat       chat_tool_auto  note       0.50  no tool_calls",
        "node1  embedding  embedding_norm  ok         0.50  norm 1",
        'node2  chat       chat_answer     FAILED     0.50  "Lyon."',
    ]


def test_table_without_evidence():
    assert _evidence.table_lines([]) == ["host  service  probe  result  seconds  got"]


def test_table_is_cut_to_its_width():
    lines = _evidence.table_lines([row(got="x" * 200), row("node2", got="巴" * 100)], width=80)
    assert [len(line) for line in lines[1:]] == [80, 64]
    assert all(line.endswith("...") for line in lines[1:])


def test_table_counts_wide_characters_twice():
    lines = _evidence.table_lines([row(service="对话"), row(service="chat")])
    assert lines[1].index("chat_answer") == lines[2].index("chat_answer") - 2


def test_failures():
    assert _evidence.failure_lines(EVIDENCE) == [
        'node2 chat chat_answer: expected /paris/i, got "Lyon." (http://127.0.0.1:8101/v1/chat/completions)'
    ]


def test_failure_without_host_and_url_is_on_one_line():
    line = {"service": "chat", "probe": "chat_answer", "ok": False, "expected": "x", "got": "a\n\x1b[31mb"}
    assert _evidence.failure_lines([line]) == ["chat chat_answer: expected x, got a [31mb"]


@pytest.mark.parametrize(
    ("ok", "required", "failure"), [(True, True, False), (False, True, True), (False, False, False)]
)
def test_only_what_is_required_fails(ok, required, failure):
    assert _evidence.is_failure(row(ok=ok, required=required)) is failure


def test_junit():
    root = ElementTree.fromstring(_evidence.junit_xml(EVIDENCE))
    assert root.attrib == {
        "name": "llmops.fleet",
        "tests": "4",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
        "time": "13.845",
    }
    assert [(suite.get("name"), suite.get("tests")) for suite in root] == [("node1", "3"), ("node2", "1")]
    cases = [(case.get("classname"), case.get("name"), [child.tag for child in case]) for case in root.iter("testcase")]
    assert cases == [
        ("chat", "chat_answer", ["properties"]),
        ("chat", "chat_tool_auto", ["properties", "skipped"]),
        ("embedding", "embedding_norm", ["properties"]),
        ("chat", "chat_answer", ["properties", "failure"]),
    ]
    assert root.find(".//failure").attrib == {"type": "probe", "message": 'expected /paris/i, got "Lyon."'}
    assert root.find(".//failure").text == _evidence.failure_lines(EVIDENCE)[0]
    assert {item.get("name"): item.get("value") for item in root[1][0].iter("property")} == {
        "task": "chat",
        "expected": "/paris/i",
        "got": '"Lyon."',
        "url": "http://127.0.0.1:8101/v1/chat/completions",
    }


@pytest.mark.parametrize(
    ("evidence", "message"),
    [
        ({"node1": []}, "evidence: must be a list of what inference_probe returns, not dict"),
        ("x", "evidence: must be a list of what inference_probe returns, not str"),
        ([row(), "x"], "evidence[1]: must be a dictionary, not str"),
        ([{"service": "chat"}], "evidence[0]: lacks probe, ok"),
    ],
)
def test_wrong_evidence_is_named(evidence, message):
    for function in (_evidence.table_lines, _evidence.junit_xml, _evidence.failure_lines):
        with pytest.raises(SpecError) as caught:
            function(evidence)
        assert str(caught.value) == message


ROWS = st.lists(
    st.builds(
        row,
        host=st.text(max_size=6),
        service=st.text(max_size=6),
        probe=st.text(max_size=6),
        ok=st.booleans(),
        required=st.booleans(),
        got=st.text(max_size=60),
        expected=st.text(max_size=20),
        seconds=st.floats(0, 1e6) | st.none(),
        url=st.text(max_size=20),
    ),
    max_size=5,
)


@given(rows=ROWS)
def test_junit_is_well_formed_whatever_the_evidence_holds(rows):
    root = ElementTree.fromstring(_evidence.junit_xml(rows).encode("utf-8", "strict"))
    assert len(list(root.iter("testcase"))) == len(rows)
    assert len(list(root.iter("failure"))) == len(_evidence.failure_lines(rows)) == int(root.get("failures"))


@given(rows=ROWS, width=st.integers(0, 200))
def test_a_table_has_a_line_for_each_row(rows, width):
    lines = _evidence.table_lines(rows, width)
    assert len(lines) == len(rows) + 1
    assert all(len(line.splitlines()) == 1 for line in lines)


@given(rows=ROWS)
def test_hosts_in_any_order_give_the_same(rows):
    by_host = sorted(rows, key=lambda item: item["host"], reverse=True)
    for function in (_evidence.table_lines, _evidence.junit_xml, _evidence.failure_lines):
        assert function(by_host) == function(rows)


@given(rows=ROWS)
def test_a_failure_is_one_line(rows):
    assert all(len(line.splitlines()) == 1 for line in _evidence.failure_lines(rows))
