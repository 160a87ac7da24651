# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib

import pytest
from ansible.errors import AnsibleFilterError

ROW = {"host": "node1", "service": "chat", "probe": "chat_answer", "ok": False, "expected": "/paris/i", "got": "Lyon"}
ROW |= {"seconds": 1, "url": "http://a"}


def filters(name):
    plugin = importlib.import_module(f"ansible_collections.llmops.fleet.plugins.filter.{name}")
    return plugin.FilterModule().filters()


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        (
            "evidence_table",
            [[ROW]],
            [
                "host   service  probe        result  seconds  got",
                "node1  chat     chat_answer  FAILED     1.00  Lyon",
            ],
        ),
        ("evidence_table", [[ROW | {"got": "x" * 99}], 80], "node1  chat     chat_answer  FAILED     1.00  "),
        ("evidence_failures", [[ROW]], ["node1 chat chat_answer: expected /paris/i, got Lyon (http://a)"]),
        ("evidence_junit", [[]], '<?xml version="1.0" encoding="utf-8"?>\n<testsuites name="llmops.fleet" tests="0"'),
    ],
)
def test_filters(name, arguments, result):
    found = filters(name)[name](*arguments)
    if len(arguments) == 2:
        assert len(found[1]) == 80
        found = found[1]
    assert found == result if isinstance(result, list) else found.startswith(result)


@pytest.mark.parametrize("name", ["evidence_table", "evidence_junit", "evidence_failures"])
def test_wrong_evidence_is_an_error_of_the_filter(name):
    with pytest.raises(AnsibleFilterError, match=r"evidence\[0\]: must be a dictionary, not int"):
        filters(name)[name]([1])
