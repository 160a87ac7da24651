# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.llmops.fleet.plugins.module_utils import _store
from ansible_collections.llmops.fleet.plugins.module_utils._fs import sha256_file
from ansible_collections.llmops.fleet.plugins.module_utils._manifest import Manifest, ModelFile

MODEL: dict[str, Any] = {"name": "m", "source": "modelscope", "repo": "acme/m", "revision": "v1"}
FILES = {
    "config.json": b'{"model_type": "bert", "dtype": "bfloat16", "text_config": {"hidden_size": 4}}',
    "sub/model.safetensors": b"\x02\0\0\0\0\0\0\0{}",
}


def stage(directory: Path, files: dict[str, bytes]) -> Manifest:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    listed = (ModelFile(n, len(files[n]), sha256_file(str(directory / n))) for n in sorted(files))
    return Manifest(tuple(listed), commit="c0ffee")


@pytest.fixture
def store(tmp_path: Path) -> str:
    manifest = stage(tmp_path / "staged", FILES)
    _store.publish(str(tmp_path / "models"), MODEL, "https://hub", manifest, str(tmp_path / "staged"))
    return str(tmp_path / "models")


def current(store: str) -> Path:
    return Path(store) / "m" / "current"


def test_status_of_what_was_published(store: str) -> None:
    status = _store.model_status(store, MODEL)
    assert status["present"] and status["reason"] is None and status["commit"] == "c0ffee"
    assert status["path"] == os.path.realpath(current(store)) and status["bytes"] == sum(map(len, FILES.values()))
    assert status["facts"] == {
        "architectures": [],
        "model_type": "bert",
        "max_position_embeddings": None,
        "torch_dtype": "bfloat16",
        "hidden_size": 4,
        "chat_template": False,
        "tool_template": False,
        "tool_call_tag": False,
        "weight_bytes": 10,
        "files": 2,
    }


def test_status_reads_one_file(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = open

    def spy(path: Any, *args: Any, **kwargs: Any) -> Any:
        opened.append(os.path.basename(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", spy)
    assert _store.model_status(store, MODEL)["present"]
    assert opened == [".model.json"]


@pytest.mark.parametrize(
    ("change", "present"),
    [
        ({}, True),
        ({"revision": "v2"}, False),
        ({"repo": "acme/other"}, False),
        ({"source": "huggingface"}, False),
        ({"include": ["*.json"]}, False),
        ({"exclude": ["*.md"]}, False),
        ({"allow_remote_code": True}, False),
        ({"include": None, "exclude": [], "allow_remote_code": False, "languages": ["en"]}, True),
        ({"name": "other"}, False),
    ],
)
def test_status_follows_the_specification(store: str, change: dict[str, Any], present: bool) -> None:
    status = _store.model_status(store, {**MODEL, **change})
    assert status["present"] is present
    if not present:
        key = next(iter(change))
        assert key in status["reason"] or "not in the store" in status["reason"]
        assert status["path"] is None and status["facts"] == {}


def touch(path: Path) -> None:
    os.utime(path / "config.json", ns=(1, 1))


def truncate(path: Path) -> None:
    os.truncate(path / "config.json", 3)


def remove(path: Path) -> None:
    os.unlink(path / "config.json")


def relink(path: Path) -> None:
    os.rename(path / "config.json", path / "other")
    os.symlink("other", path / "config.json")


@pytest.mark.parametrize("damage", [touch, truncate, remove, relink])
def test_status_sees_damage(store: str, damage: Any) -> None:
    damage(current(store))
    status = _store.model_status(store, MODEL)
    assert not status["present"] and status["reason"].startswith("config.json: ")


@pytest.mark.parametrize(
    "record",
    [b"", b"{", b"[]", b"{}", b'{"managed_by": "llmops.fleet", "schema": 2, "files": {}}', b'{"files": {}}',
     b'{"managed_by": "llmops.fleet", "schema": 1, "files": 7}'],
)  # fmt: skip
def test_status_without_a_usable_record(store: str, record: bytes) -> None:
    (current(store) / ".model.json").write_bytes(record)
    status = _store.model_status(store, MODEL)
    assert not status["present"] and "no record of llmops.fleet" in status["reason"]


def test_status_never_raises(store: str) -> None:
    path = current(store) / ".model.json"
    record = json.loads(path.read_text())
    record["files"]["config.json"] = 7
    path.write_text(json.dumps(record))
    assert "can't be read" in _store.model_status(store, MODEL)["reason"]
    assert not _store.model_status(store, {})["present"]
    assert not _store.model_status("/dev/null", MODEL)["present"]


def test_current_must_lead_to_a_revision_of_this_model(store: str, tmp_path: Path) -> None:
    os.rename(os.path.realpath(current(store)), tmp_path / "elsewhere")
    os.unlink(current(store))
    current(store).symlink_to(tmp_path / "elsewhere")
    assert _store.model_status(store, MODEL)["reason"] == "is not in the store"


def test_a_damaged_record_can_not_lead_outside(store: str) -> None:
    path = current(store) / ".model.json"
    record = json.loads(path.read_text())
    found = os.stat("/etc/passwd")
    record["files"] = {
        "../../../../../../../../etc/passwd": {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "sha256": "a" * 64}
    }
    path.write_text(json.dumps(record))
    assert _store.recorded_files(store, "m") == () and _store.linkable_files(store, "m") == {}


TEMPLATES = {
    "chat_template.jinja": (b"{{ tools }}<tool_call>", (True, True, True)),
    "chat_template.json": (b'{"chat_template": "{{ tools }}"}', (True, True, False)),
    "tokenizer_config.json": (
        b'{"chat_template": [{"name": "x", "template": "{{ messages }}"}]}',
        (True, False, False),
    ),
    "other.json": (b"{}", (False, False, False)),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_facts(tmp_path: Path, name: str) -> None:
    content, expected = TEMPLATES[name]
    stage(tmp_path, {name: content, "config.json": b"not json"})
    facts = _store.read_facts(str(tmp_path), {name: len(content)})
    assert (facts["chat_template"], facts["tool_template"], facts["tool_call_tag"]) == expected
    assert facts["model_type"] is None


def test_a_directory_of_the_users(tmp_path: Path) -> None:
    model = {"name": "m", "source": "path", "path": str(tmp_path / "d")}
    assert "is not a directory" in _store.model_status("/nonexistent", model)["reason"]
    stage(tmp_path / "d", {"config.json": b"{}"})
    assert "no *.safetensors" in _store.model_status("/nonexistent", model)["reason"]
    stage(tmp_path / "d", FILES)
    status = _store.model_status("/nonexistent", model)
    assert status["present"] and status["path"] == str(tmp_path / "d") and status["facts"]["weight_bytes"] == 10


def test_plan_and_bytes_needed(store: str, tmp_path: Path) -> None:
    published, staged = os.path.realpath(current(store)), tmp_path / "next"
    listed = _store.recorded_files(store, "m")
    new = ModelFile("new.json", 100, "1" * 64)
    half = ModelFile("half.safetensors", 100, "2" * 64)
    done = ModelFile("done.json", 4, "3" * 64)
    stage(staged, {"half.safetensors.incomplete": b"x" * 30, "done.json": b"done"})
    manifest = Manifest((*listed, new, half, done))
    record = _store.read_sidecar(published)
    actions = _store.plan_files(manifest, published, str(staged), {new.sha256: "x"}, record)
    assert actions == {
        "config.json": "keep",
        "sub/model.safetensors": "keep",
        "new.json": "link",
        "half.safetensors": "fetch",
        "done.json": "staged",
    }
    assert _store.bytes_needed(manifest.files, actions, str(staged)) == 70
    actions = _store.plan_files(manifest, published, str(staged), {}, None)
    assert (actions["config.json"], actions["new.json"]) == ("check", "fetch")
