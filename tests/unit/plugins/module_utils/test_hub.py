# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.llmops.fleet.plugins.module_utils import _hub
from ansible_collections.llmops.fleet.plugins.module_utils._fs import HostError
from ansible_collections.llmops.fleet.plugins.module_utils._manifest import ModelFile

SOURCE = _hub.Source("https://hub.example", "acme/m", "v1", token="s3cret")
FILE = ModelFile("a.safetensors", 10, "a" * 64)


def report(**value: Any) -> str:
    return f"noise\n{_hub.MARK}{json.dumps(value)}\n"


def test_source_names_itself_without_its_token() -> None:
    assert str(SOURCE) == "modelscope acme/m@v1 from https://hub.example"
    assert "s3cret" not in repr(SOURCE)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(404, "not_found", "check repo and revision"), (401, "auth", "token"), (403, "auth", "no access"),
     (429, "rate_limited", "limits"), (500, "network", "500"), (503, "network", "503"), (418, "network", "418")],
)  # fmt: skip
def test_http_problem(status: int, code: str, words: str) -> None:
    found, problem = _hub.http_problem(status)
    assert found == code and words in problem and problem.startswith(str(status))


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"", b'{"Success": false, "Message": "model not found"}'])
def test_answers_that_are_no_listing(body: bytes) -> None:
    with pytest.raises(HostError) as err:
        _hub._listing_data(body)
    assert err.value.code == "network"


def test_what_may_pass_is_tried_again_with_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def fail(_source: _hub.Source) -> None:
        raise HostError("network", "refused")

    monkeypatch.setattr(_hub, "_get_listing", fail)
    with pytest.raises(HostError, match="refused"):
        _hub.list_files(SOURCE, pauses.append)
    assert pauses == [2.0, 4.0, 8.0, 16.0]


def test_what_will_not_pass_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_source: _hub.Source) -> None:
        raise HostError("not_found", "404")

    monkeypatch.setattr(_hub, "_get_listing", fail)
    with pytest.raises(HostError, match="404"):
        _hub.list_files(SOURCE, lambda _seconds: pytest.fail("no pause"))


@pytest.mark.parametrize(
    ("item", "code", "words"),
    [
        ({"type": "NotExistError"}, "not_found", "404"),
        ({"type": "PermissionDeniedError"}, "auth", "403"),
        ({"type": "RateLimitError"}, "rate_limited", "429"),
        ({"type": "ServerError"}, "network", "5xx"),
        ({"type": "DownloadDeferredError", "cause": "ServerError"}, "network", "5xx"),
        ({"type": "DownloadDeferredError", "cause": "IncompleteBodyError"}, "network", "cut"),
        ({"type": "DownloadDeferredError", "cause": None}, "network", "cut"),
        ({"type": "DownloadDeadlineError"}, "timeout", "time"),
        ({"type": "FileIntegrityError", "error": "expected a..., got b..."}, "integrity", "got b"),
        ({"type": "OSError", "error": "[Errno 28] No space left on device"}, "no_space", "full"),
    ],
)
def test_classify(item: dict[str, Any], code: str, words: str) -> None:
    found, reason = _hub.classify(item)
    assert found == code and words in reason


def test_got_hash() -> None:
    assert _hub.got_hash("expected aaaaaaaaaaaaaaaa..., got 0123456789abcdef...") == "0123456789abcdef"
    assert _hub.got_hash("cut") == ""


def test_the_clients_environment_is_its_own() -> None:
    environment = _hub.client_environment(SOURCE, "/private")
    assert environment["MODELSCOPE_ENDPOINT"] == "https://hub.example"
    assert environment["MODELSCOPE_API_TOKEN"] == "s3cret"
    assert {environment[key].split("/")[1] for key in ("HOME", "MODELSCOPE_CACHE", "MODELSCOPE_HOME")} == {"private"}
    assert int(environment["MODELSCOPE_DOWNLOAD_TOTAL_TIMEOUT"]) > 24 * 3600
    # no token of ours must not mean: the one that somebody once stored
    assert _hub.client_environment(_hub.Source("https://h", "a/b", "v"), "/p")["MODELSCOPE_API_TOKEN"] == ""


def test_the_token_is_only_in_the_environment(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def run(arguments: Any, environment: Any) -> tuple[int, str, str]:
        seen.update(arguments=arguments, environment=environment)
        return 0, report(status="COMPLETE", error=None, files={}), ""

    result = _hub.run_client(SOURCE, [FILE], "/staged", str(tmp_path / "p"), sys.executable, 2, run)
    assert result == _hub.ClientResult({}, None)
    assert "s3cret" not in " ".join(seen["arguments"]) and seen["environment"]["MODELSCOPE_API_TOKEN"] == "s3cret"
    options = json.loads((tmp_path / "p" / "options.json").read_text())
    assert options["files"] == [{"Path": FILE.path, "Size": 10, "Sha256": FILE.sha256, "Type": "blob"}]
    assert "s3cret" not in json.dumps(options)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "p").iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("rc", "out", "err", "words"),
    [
        (1, "", "Traceback\nImportError: s3cret x", "ImportError: *** x"),
        (0, "hello\n", "", "no output"),
        (3, report(fatal="no usable modelscope_hub"), "", "no usable modelscope_hub"),
        (0, report(status="COMPLETE"), "", "files"),
        (0, f"{_hub.MARK}not json\n", "", "exit status 0"),
    ],
)
def test_a_client_that_fails(rc: int, out: str, err: str, words: str) -> None:
    with pytest.raises(HostError) as caught:
        _hub.parse_report(rc, out, err, "s3cret")
    assert caught.value.code == "client" and words in str(caught.value) and "s3cret" not in str(caught.value)


def test_a_partial_report() -> None:
    item = {"status": "FAILED", "type": "NotExistError", "error": "x", "cause": None}
    result = _hub.parse_report(0, report(status="PARTIAL", error="HTTP 403 E3002", files={"a": item}), "")
    assert result.failed["a"][0] == "not_found" and result.error is not None and result.error[0] == "auth"


def test_the_client_program_is_valid_and_self_contained() -> None:
    tree = ast.parse(_hub.CLIENT_PROGRAM)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= set(sys.stdlib_module_names) and modules == {"modelscope_hub"}
    assert _hub.MARK in _hub.CLIENT_PROGRAM
