# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence of probes -> a table, JUnit XML, one line for each failure. Pure; the same evidence gives the same text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError

TABLE_HEADER = ("host", "service", "probe", "result", "seconds", "got")
DEFAULT_WIDTH = 160
# What XML 1.0 cannot hold in any form
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def check_evidence(evidence: Any) -> list[dict[str, Any]]:
    """The rows, sorted by host and otherwise in the order in which they were found."""
    if not isinstance(evidence, Sequence) or isinstance(evidence, (str, bytes)):
        raise SpecError("evidence", f"must be a list of what inference_probe returns, not {type(evidence).__name__}")
    rows = []
    for index, row in enumerate(evidence):
        if not isinstance(row, Mapping):
            raise SpecError(f"evidence[{index}]", f"must be a dictionary, not {type(row).__name__}")
        missing = [key for key in ("service", "probe", "ok") if key not in row]
        if missing:
            raise SpecError(f"evidence[{index}]", f"lacks {', '.join(missing)}")
        rows.append(dict(row))
    return sorted(rows, key=_host)


def unverified(
    services: Sequence[Mapping[str, Any]], evidence: Mapping[str, Sequence[Mapping[str, Any]] | None]
) -> list[dict[str, Any]]:
    """A failed row for every present service of a host that the run lost before it was probed.

    ``services``: those of the fleet. ``evidence``: rows by host; None where there are none.
    """
    return [
        {
            "host": host,
            "service": service["name"],
            "task": service["task"],
            "probe": "verified",
            "ok": False,
            "required": True,
            "expected": "evidence",
            "got": "not verified: the run ended for this host before its services were probed",
            "seconds": 0.0,
            "url": "",
        }
        for host, rows in evidence.items()
        if rows is None
        for service in services
        if host in service["hosts"] and service["state"] == "present"
    ]


def collect(
    services: Sequence[Mapping[str, Any]], evidence: Mapping[str, Sequence[Mapping[str, Any]] | None]
) -> list[dict[str, Any]]:
    """The rows of all hosts, each with its host, and those of ``unverified``."""
    rows = [{**row, "host": host} for host, found in evidence.items() for row in found or []]
    return rows + unverified(services, evidence)


def is_failure(row: Mapping[str, Any]) -> bool:
    """Whether the row is a fault: what is not required only tells about the model."""
    return not row["ok"] and bool(row.get("required", True))


def failure_lines(evidence: Any) -> list[str]:
    """One line for each required probe that failed."""
    return [_failure_line(row) for row in check_evidence(evidence) if is_failure(row)]


def table_lines(evidence: Any, width: int = DEFAULT_WIDTH) -> list[str]:
    """An aligned table, the header first. What came back is cut so that a line has ``width`` columns where it can."""
    rows = [TABLE_HEADER, *(_cells(row) for row in check_evidence(evidence))]
    columns = [max(_columns(row[place]) for row in rows) for place in range(len(TABLE_HEADER) - 1)]
    room = max(20, width - sum(columns) - 2 * len(columns))
    lines = []
    for row in rows:
        padded = [
            # Seconds to the right, so that their points stand below each other
            _pad(cell, columns[place], place == 4)
            for place, cell in enumerate(row[:-1])
        ]
        lines.append("  ".join([*padded, _cut(row[-1], room)]).rstrip())
    return lines


def junit_xml(evidence: Any) -> str:
    """JUnit XML: a suite for each host, a case for each probe. What is not required and not ok counts as skipped."""
    rows = check_evidence(evidence)
    root = ElementTree.Element("testsuites", {"name": "llmops.fleet", **_counts(rows)})
    for host in dict.fromkeys(_host(row) for row in rows):
        own = [row for row in rows if _host(row) == host]
        suite = ElementTree.SubElement(root, "testsuite", {"name": _xml_text(host), **_counts(own)})
        for row in own:
            _test_case(suite, row)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _test_case(suite: ElementTree.Element, row: Mapping[str, Any]) -> None:
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname=_xml_text(row["service"]),
        name=_xml_text(row["probe"]),
        time=f"{_seconds(row):.3f}",
    )
    properties = ElementTree.SubElement(case, "properties")
    for key in ("task", "expected", "got", "url"):
        ElementTree.SubElement(properties, "property", name=key, value=_xml_text(row.get(key, "")))
    if is_failure(row):
        message = _xml_text(f"expected {row.get('expected', '')}, got {row.get('got', '')}")
        failure = ElementTree.SubElement(case, "failure", type="probe", message=message)
        failure.text = _xml_text(_failure_line(row))
    elif not row["ok"]:
        ElementTree.SubElement(case, "skipped", message=_xml_text(f"not required; got {row.get('got', '')}"))


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    failures = sum(is_failure(row) for row in rows)
    skipped = sum(not row["ok"] for row in rows) - failures
    return {
        "tests": str(len(rows)),
        "failures": str(failures),
        "errors": "0",
        "skipped": str(skipped),
        "time": f"{sum(_seconds(row) for row in rows):.3f}",
    }


def _failure_line(row: Mapping[str, Any]) -> str:
    name = " ".join(filter(None, (_host(row), str(row["service"]), str(row["probe"]))))
    url = f" ({row['url']})" if row.get("url") else ""
    return _one_line(f"{name}: expected {row.get('expected', '')}, got {row.get('got', '')}{url}")


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    result = "ok" if row["ok"] else "FAILED" if is_failure(row) else "note"
    cells = (_host(row), row["service"], row["probe"], result, f"{_seconds(row):.2f}", row.get("got", ""))
    return tuple(_one_line(str(cell)) for cell in cells)


def _host(row: Mapping[str, Any]) -> str:
    return str(row.get("host", ""))


def _seconds(row: Mapping[str, Any]) -> float:
    return float(row.get("seconds") or 0)


def _one_line(text: str) -> str:
    return _BLANKS.sub(" ", text).strip()


def _columns(text: str) -> int:
    """Columns on a terminal: Chinese characters take two."""
    return sum(_character_columns(character) for character in text)


def _character_columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _pad(text: str, columns: int, right: bool) -> str:
    blanks = " " * (columns - _columns(text))
    return blanks + text if right else text + blanks


def _cut(text: str, columns: int) -> str:
    if _columns(text) <= columns:
        return text
    kept, used = "", 3
    for character in text:
        used += _character_columns(character)
        if used > columns:
            break
        kept += character
    return kept + "..."


def _xml_text(value: Any) -> str:
    return _NOT_XML.sub("", str(value))
