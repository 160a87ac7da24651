# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""model_download driven through main(), with the real modelscope_hub client against the sandbox's hub."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.llmops.fleet.plugins.module_utils import _fs, _store
from ansible_collections.llmops.fleet.plugins.module_utils._manifest import Manifest, ModelFile
from ansible_collections.llmops.fleet.plugins.modules import model_download

ROOT = Path(__file__).resolve().parents[4]
SHARD = "model-00002-of-00002.safetensors"
TOKEN = "ms-3f0c1d2e-secret"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("modelscope_hub") is None, reason="modelscope_hub is not installed"
)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tests_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


hub_module = load(ROOT / "molecule" / "sandbox" / "hub.py")


def safetensors(size: int, seed: str) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    body = (hashlib.sha256(seed.encode()).digest() * (size // 32 + 1))[:size]
    return len(header).to_bytes(8, "little") + header + body


REPO = {
    "config.json": json.dumps(
        {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8}
    ).encode(),
    "tokenizer_config.json": json.dumps({"chat_template": "{% if tools %}<tool_call>{% endif %}"}).encode(),
    "model-00001-of-00002.safetensors": safetensors(3000, "one"),
    SHARD: safetensors(3 << 20, "two"),
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": SHARD}}
    ).encode(),
    "1_Pooling/config.json": b"{}",
    "pytorch_model.bin": b"\x80pickle",
    "modeling_acme.py": b"import os\n",
}
FETCHED = sorted(set(REPO) - {"pytorch_model.bin", "modeling_acme.py"})


def write(directory: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Any]:
    root = tmp_path / "hub"
    write(root / "acme" / "tiny", REPO)
    write(root / "acme" / "tiny@v2", {**REPO, "config.json": b'{"model_type": "llama", "hidden_size": 16}'})
    write(root / "acme" / "pickled", {"config.json": b"{}", "pytorch_model.bin": b"\x80"})
    write(root / "acme" / "fake", {"config.json": b"{}", "model.safetensors": b"PK\x03\x04 a zip, not tensors"})
    write(root / "acme" / "cut", {name: REPO[name] for name in REPO if name != SHARD})
    with hub_module.Hub(root) as running:
        yield running


class Driver:
    """Runs the module with this hub and store and returns what it prints."""

    def __init__(self, hub: Any, models_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.hub, self.models_dir, self.capfd = hub, models_dir, capfd

    def __call__(self, check: bool = False, diff: bool = True, **params: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "name": "tiny",
            "repo": "acme/tiny",
            "models_dir": str(self.models_dir),
            "endpoint": self.hub.url,
            "python": sys.executable,
            "min_free": "1M",
            "retries": 1,
            "retry_delay": 0.0,
            "lock_timeout": 0.0,
            **params,
        }
        internal = {"_ansible_check_mode": check, "_ansible_diff": diff}
        self.capfd.readouterr()
        with patch_module_args({**arguments, **internal}), pytest.raises(SystemExit):
            model_download.main()
        out, err = self.capfd.readouterr()
        assert TOKEN not in out + err
        result: dict[str, Any] = json.loads(out.splitlines()[-1])
        return result

    def ok(self, **params: Any) -> dict[str, Any]:
        result = self(**params)
        assert not result.get("failed"), result
        return result

    def fails(self, code: str, **params: Any) -> str:
        result = self(**params)
        assert result.get("failed"), result
        assert result["error_code"] == code, result
        message = str(result["msg"])
        assert "\n" not in message and message.startswith('model "tiny"')
        return message

    @property
    def current(self) -> Path:
        return self.models_dir / "tiny" / "current"


@pytest.fixture
def driver(hub: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Driver:
    return Driver(hub, tmp_path / "models", capfd)


def tree(directory: Path) -> dict[str, bytes]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def stamps(directory: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in sorted(directory.rglob("*"))}


def publish_old(models_dir: Path) -> None:
    """A store that holds another revision, without a hub and its client."""
    files = {name: REPO[name] for name in ("config.json", "model-00001-of-00002.safetensors")}
    staged = models_dir / "staged"
    write(staged, files)
    listed = (ModelFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items())
    model = {"name": "tiny", "repo": "acme/tiny", "revision": "v0"}
    _store.publish(str(models_dir), model, "http://hub", Manifest(tuple(listed)), str(staged))


def requests(hub: Any, part: str) -> list[dict[str, Any]]:
    return [entry for entry in hub.log if part in entry["path"]]


def shell_client(tmp_path: Path, report: str, commands: str = "") -> str:
    """A stand-in for the venv's interpreter that runs shell commands and claims what it is told to."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{commands}\necho {shlex.quote('llmops-fleet-report:' + report)}\n")
    path.chmod(0o755)
    return str(path)


def test_fetch_then_nothing_to_do(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    umask = os.umask(0o077)
    try:
        first = driver.ok()
    finally:
        os.umask(umask)
    assert first["changed"] and first["model"]["present"]
    directory = Path(first["model"]["path"])
    assert directory.name == first["model"]["manifest_sha256"][:16]
    assert os.readlink(driver.current) == directory.name
    assert {name: data for name, data in tree(directory).items() if name != ".model.json"} == {
        name: REPO[name] for name in FETCHED
    }
    assert first["skipped"] == ["modeling_acme.py", "pytorch_model.bin"]
    assert first["bytes_needed"] == first["bytes_downloaded"] == sum(len(REPO[name]) for name in FETCHED)
    assert {file["action"] for file in first["files"]} == {"fetch"}
    facts = first["model"]["facts"]
    assert (facts["architectures"], facts["model_type"], facts["hidden_size"]) == (["LlamaForCausalLM"], "llama", 8)
    assert (facts["chat_template"], facts["tool_template"], facts["tool_call_tag"]) == (True, True, True)
    assert facts["weight_bytes"] == sum(len(REPO[name]) for name in FETCHED if name.endswith(".safetensors"))
    assert first["diff"]["before"] == "" and len(first["diff"]["after"].splitlines()) == len(FETCHED)
    modes = {oct(path.stat().st_mode & 0o777) for path in [directory, *directory.rglob("*")]}
    assert modes == {"0o644", "0o755"}
    assert not any((driver.models_dir / ".staging").iterdir())

    before, requests_before = stamps(driver.models_dir), len(driver.hub.log)
    monkeypatch.setattr(model_download._hub, "list_files", lambda *_: pytest.fail("no network is needed"))
    for check in (False, True):
        second = driver.ok(check=check, python="/nonexistent")
        assert not second["changed"] and second["model"] == first["model"] and second["files"] == []
    assert stamps(driver.models_dir) == before and len(driver.hub.log) == requests_before


def test_check_mode_writes_nothing_and_needs_no_client(driver: Driver) -> None:
    result = driver.ok(check=True, python="/nonexistent")
    assert result["changed"] and not result["model"]["present"]
    assert result["model"]["facts"]["files"] == len(FETCHED)
    assert [file["path"] for file in result["files"] if file["action"] == "fetch"] == FETCHED
    assert result["bytes_needed"] == sum(len(REPO[name]) for name in FETCHED) and result["bytes_downloaded"] == 0
    assert len(result["diff"]["after"].splitlines()) == len(FETCHED)
    assert not driver.models_dir.exists()
    assert [entry["method"] for entry in driver.hub.log] == ["GET"] and "repo/files" in driver.hub.log[0]["path"]
    done = driver.ok()
    assert done["model"]["path"] == result["model"]["path"]


def test_new_revision_links_what_it_has(driver: Driver) -> None:
    first = driver.ok(revision="v1.0.0")
    assert driver.ok(check=True, revision="v1.0.0")["changed"] is False
    driver.hub.log.clear()
    second = driver.ok(revision="v2")
    assert {file["path"]: file["action"] for file in second["files"]} == {
        name: "fetch" if name == "config.json" else "link" for name in FETCHED
    }
    assert len(requests(driver.hub, "FilePath=")) == 1
    assert os.readlink(driver.current) == Path(second["model"]["path"]).name != Path(first["model"]["path"]).name
    assert os.path.samefile(Path(first["model"]["path"]) / SHARD, driver.current / SHARD)
    assert second["model"]["facts"]["hidden_size"] == 16
    changed = {line.split()[2] for line in second["diff"]["before"].splitlines()} & {"config.json"}
    assert changed and second["diff"]["before"] != second["diff"]["after"]


@pytest.mark.parametrize(
    ("faults", "params", "code", "words"),
    [
        (
            {},
            {"repo": "acme/none"},
            "not_found",
            ["404: no such model or revision", "modelscope acme/none@master from"],
        ),
        ({}, {"revision": "v9"}, "not_found", ["404", "acme/tiny@v9", "check repo and revision"]),
        ({"private": {"acme/tiny": TOKEN}}, {}, "auth", ["401", "fleet_modelscope_token"]),
        ({"private": {"acme/tiny": TOKEN}}, {"token": "other"}, "auth", ["403"]),
        ({"status": 500}, {}, "network", ["500", "error of its own"]),
        ({"status": 429}, {}, "rate_limited", ["429"]),
        ({"status": {"code": 403, "only": "file"}}, {}, "auth", ["401 or 403"]),
        ({"status": {"code": 404, "only": "file"}}, {}, "not_found", ["listed, but not on the hub"]),
        ({"status": {"code": 500, "only": "file"}}, {}, "network", ["5xx"]),
        ({"cut": {SHARD: 0.5}}, {}, "network", [SHARD, "cut", "resume"]),
        ({"corrupt": {SHARD: 2000000}}, {}, "integrity", [SHARD, "expected sha256", "got"]),
        ({"lie": {SHARD: True}}, {}, "integrity", [SHARD, "expected sha256", "got"]),
        ({"traverse": True}, {}, "unsafe_path", ["../../evil.txt", "unsafe path"]),
        ({"nosha": True}, {}, "integrity", ["no SHA-256"]),
        ({"entries": [{"Path": "CONFIG.json"}]}, {}, "unsafe_path", ["differs from", "by case only"]),
        ({}, {"repo": "acme/pickled"}, "unsafe_format", ["*.safetensors", "pytorch_model.bin"]),
        ({}, {"repo": "acme/fake"}, "unsafe_format", ["model.safetensors", "not safetensors"]),
        ({}, {"repo": "acme/cut"}, "integrity", ["model.safetensors.index.json names", SHARD]),
        ({}, {"source": "huggingface"}, "unsupported", ["not yet supported by this version"]),
        ({}, {"repo": "tiny"}, "invalid", ["owner/name"]),
        ({}, {"revision": "../x"}, "invalid", ["revision"]),
        ({}, {"min_free": "lots"}, "invalid", ["min_free", "lots"]),
        ({}, {"endpoint": "ftp://hub"}, "invalid", ["http or https"]),
        ({}, {"endpoint": "http://127.0.0.1:9"}, "network", ["can't be reached", "fleet_proxy"]),
        ({}, {"python": "/nonexistent/python"}, "client", ["/nonexistent/python", "model_store"]),
        ({}, {"python": "/bin/false"}, "client", ["exit status 1"]),
    ],
)
def test_failures_leave_the_store_as_it_was(
    driver: Driver, faults: dict[str, Any], params: dict[str, Any], code: str, words: list[str]
) -> None:
    publish_old(driver.models_dir)
    before = tree(driver.models_dir / "tiny"), os.readlink(driver.current)
    driver.hub.faults.update(faults)
    message = driver.fails(code, **params)
    for word in words:
        assert word in message
    assert (tree(driver.models_dir / "tiny"), os.readlink(driver.current)) == before
    assert not (driver.models_dir.parent / "evil.txt").exists() and not (driver.models_dir / "evil.txt").exists()


def test_private_model_with_its_token(driver: Driver) -> None:
    driver.hub.faults["private"] = {"acme/tiny": TOKEN}
    result = driver.ok(token=TOKEN)
    assert result["model"]["present"] and "clear text" in str(result["warnings"])
    for path in driver.models_dir.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


def test_token_does_not_follow_a_redirect(driver: Driver) -> None:
    driver.hub.faults.update(private={"acme/tiny": TOKEN}, redirect=driver.hub.url.replace("127.0.0.1", "localhost"))
    driver.ok(token=TOKEN)
    assert requests(driver.hub, "/_cdn/") and not any(entry["auth"] for entry in requests(driver.hub, "/_cdn/"))


def test_a_cut_is_resumed_by_range(driver: Driver) -> None:
    driver.hub.faults["cut"] = {SHARD: {"at": 0.5, "times": 1}}
    assert driver.ok()["model"]["present"]
    asked = [entry["range"] for entry in requests(driver.hub, f"FilePath={SHARD}")]
    assert asked[0] is None and asked[1].startswith("bytes=") and asked[1] != "bytes=0-"


def test_many_cuts_are_survived_while_each_try_brings_something(driver: Driver) -> None:
    """The client's own count of tries is not reset by progress; the outer loop's is."""
    driver.hub.faults["every"] = {SHARD: (1 << 20) + 1000}
    assert driver.ok(retries=0)["model"]["present"]
    assert len(requests(driver.hub, f"FilePath={SHARD}")) >= 3


def test_a_later_run_resumes(driver: Driver) -> None:
    driver.hub.faults["cut"] = {SHARD: 0.5}
    driver.fails("network")
    assert driver.current.exists() is False
    driver.hub.faults.clear()
    driver.hub.log.clear()
    planned = driver.ok(check=True)
    actions = {file["path"]: file["action"] for file in planned["files"]}
    assert actions[SHARD] == "fetch" and actions["config.json"] == "staged"
    assert planned["bytes_needed"] < len(REPO[SHARD])
    result = driver.ok()
    assert [entry["range"] for entry in requests(driver.hub, "FilePath=")] == [f"bytes={len(REPO[SHARD]) // 2}-"]
    assert result["bytes_downloaded"] == planned["bytes_needed"]
    assert tree(driver.current)[SHARD] == REPO[SHARD]


def test_a_killed_run_takes_its_client_along_and_is_resumed(driver: Driver, tmp_path: Path) -> None:
    driver.hub.faults["rate"] = 300_000
    arguments = {"name": "tiny", "repo": "acme/tiny", "models_dir": str(driver.models_dir), "endpoint": driver.hub.url}
    settings = tmp_path / "arguments.json"
    settings.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "python": sys.executable, "min_free": "1M"}}))
    code = f"from {model_download.__name__} import main; main()"
    path = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen([sys.executable, "-c", code, str(settings)], env=environment) as process:
        deadline = time.monotonic() + 20
        while not (partial := sorted(driver.models_dir.rglob(f"{SHARD}.incomplete"))) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        process.kill()
    assert partial
    there = -1
    while there != partial[0].stat().st_size and time.monotonic() < deadline:  # until nobody writes any more
        there = partial[0].stat().st_size
        time.sleep(0.5)
    assert 0 < there < len(REPO[SHARD]) - 1_000_000
    driver.hub.faults.clear()
    driver.hub.log.clear()
    assert driver.ok()["model"]["present"]
    assert [entry["range"] for entry in requests(driver.hub, SHARD)] == [f"bytes={there}-"]


def test_errors_that_pass_are_tried_again(driver: Driver) -> None:
    driver.hub.faults["status"] = {"code": 503, "times": 1, "only": "list"}
    assert driver.ok()["model"]["present"]


def test_a_lying_client_is_caught_once_it_lied_twice(driver: Driver, tmp_path: Path) -> None:
    size = len(REPO["model-00001-of-00002.safetensors"])
    commands = (
        f"for d in {tmp_path}/models/.staging/tiny/*/files; do head -c {size} /dev/zero > "
        "$d/model-00001-of-00002.safetensors; done; echo run >> " + str(tmp_path / "runs")
    )
    client = shell_client(tmp_path, '{"status": "COMPLETE", "error": null, "files": {}}', commands)
    message = driver.fails("integrity", python=client, include=["model-00001*"])
    wanted = hashlib.sha256(REPO["model-00001-of-00002.safetensors"]).hexdigest()
    got = hashlib.sha256(bytes(size)).hexdigest()
    assert f"model-00001-of-00002.safetensors: expected sha256 {wanted}, got {got}" in message
    assert (tmp_path / "runs").read_text() == "run\n" * 2
    assert not driver.current.exists()


def test_a_client_that_claims_success_without_files(driver: Driver, tmp_path: Path) -> None:
    client = shell_client(tmp_path, '{"status": "COMPLETE", "error": null, "files": {}}')
    assert "config.json (and" in driver.fails("network", python=client, include=["config.json", "model-00001*"])


def test_a_client_that_cannot_be_imported(driver: Driver, tmp_path: Path) -> None:
    client = shell_client(tmp_path, '{"fatal": "no usable modelscope_hub: No module named x"}')
    assert "no usable modelscope_hub" in driver.fails("client", python=client)


def test_no_space_is_seen_before_a_byte_is_fetched(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fs, "disk_space", lambda path: (2 << 30, 100 << 30))
    for check in (True, False):
        message = driver.fails("no_space", check=check, min_free="3G")
        assert "3.00 GiB to keep free" in message and "2.00 GiB free of 100.00 GiB" in message
        assert str(driver.models_dir) in message
    assert not driver.models_dir.exists() and not requests(driver.hub, "FilePath=")


def test_damage_is_repaired_in_place(driver: Driver) -> None:
    first = driver.ok()
    shard = driver.current / SHARD
    inode = os.stat(first["model"]["path"]).st_ino
    shard.write_bytes(b"x" + REPO[SHARD][1:])
    os.unlink(driver.current / "config.json")
    os.utime(driver.current / "tokenizer_config.json")
    planned = driver.ok(check=True)
    actions = {file["path"]: file["action"] for file in planned["files"] if file["action"] != "keep"}
    assert actions == {SHARD: "check", "config.json": "fetch", "tokenizer_config.json": "check"}
    driver.hub.log.clear()
    second = driver.ok()
    actions = {file["path"]: file["action"] for file in second["files"] if file["action"] != "keep"}
    assert actions == {SHARD: "fetch", "config.json": "fetch"}
    assert len(requests(driver.hub, "FilePath=")) == 2
    assert tree(driver.current)[SHARD] == REPO[SHARD] and second["model"]["present"]
    assert os.stat(second["model"]["path"]).st_ino == inode
    assert driver.ok()["changed"] is False


def test_verified(driver: Driver) -> None:
    assert "fetch it first" in driver.fails("not_found", state="verified")
    driver.ok()
    before = stamps(driver.models_dir)
    result = driver.ok(state="verified")
    assert not result["changed"] and {file["action"] for file in result["files"]} == {"verified"}
    # damage that no stat can see
    shard = driver.current / SHARD
    old = shard.stat()
    with shard.open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"!")
    os.utime(shard, ns=(old.st_atime_ns, old.st_mtime_ns))
    damaged = stamps(driver.models_dir)
    assert driver.ok()["changed"] is False
    message = driver.fails("integrity", state="verified")
    assert f"1 damaged: {SHARD}: expected sha256 {hashlib.sha256(REPO[SHARD]).hexdigest()}, got " in message
    assert stamps(driver.models_dir) == damaged == before


def test_absent_removes_what_is_ours_and_nothing_else(driver: Driver) -> None:
    assert driver.ok(state="absent")["changed"] is False
    driver.ok()
    driver.ok(revision="v2")
    other = driver.models_dir / "other"
    mine = driver.models_dir / "tiny" / "by-hand"
    for directory in (other, mine):
        directory.mkdir()
        (directory / "notes.txt").write_text("keep me")
    before = tree(driver.models_dir)
    planned = driver.ok(state="absent", check=True)
    assert planned["changed"] and tree(driver.models_dir) == before
    result = driver.ok(state="absent")
    assert result["changed"] and {file["action"] for file in result["files"]} == {"remove"}
    assert result["diff"]["after"] == "" and "config.json" in result["diff"]["before"]
    assert "by-hand" in str(result["warnings"])
    assert {name for name in tree(driver.models_dir) if not name.startswith(".lock/")} == {
        "other/notes.txt",
        "tiny/by-hand/notes.txt",
    }
    assert driver.ok(state="absent")["changed"] is False


def test_a_model_in_a_directory(driver: Driver, tmp_path: Path) -> None:
    directory = tmp_path / "mine"
    message = driver.fails("not_found", source="path", path=str(directory))
    assert f"path {directory}" in message and "is not a directory" in message
    write(directory, {name: REPO[name] for name in FETCHED})
    for state in ("present", "verified", "absent"):
        result = driver.ok(source="path", path=str(directory), state=state)
        assert not result["changed"] and result["model"]["path"] == str(directory)
    assert result["model"]["facts"]["model_type"] == "llama"
    assert not driver.models_dir.exists() and not driver.hub.log


def test_another_run_holds_the_lock(driver: Driver) -> None:
    with _fs.locked(str(driver.models_dir / ".lock" / "tiny"), 0):
        assert "another run holds" in driver.fails("locked")
    assert driver.ok()["changed"]


def test_code_is_fetched_only_where_it_is_allowed(driver: Driver) -> None:
    driver.ok()
    result = driver.ok(allow_remote_code=True)
    assert "modeling_acme.py" in [file["path"] for file in result["files"]] and result["skipped"] == [
        "pytorch_model.bin"
    ]
    assert driver.ok(allow_remote_code=True)["changed"] is False


@pytest.mark.parametrize("name", ["../x", "a/b", ".staging", "", "current", "a b"])
def test_names_that_are_refused(driver: Driver, name: str) -> None:
    result = driver(name=name)
    assert result["failed"] and result["error_code"] == "invalid" and not driver.models_dir.exists()
