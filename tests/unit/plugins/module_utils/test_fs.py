# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.llmops.fleet.plugins.module_utils import _fs


def test_atomic_write_replaces_and_sets_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    inode = path.stat().st_ino
    _fs.atomic_write(str(path), b"new", 0o600)
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_ino != inode and os.listdir(tmp_path) == ["file"]


def test_atomic_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        _fs.atomic_write(str(path), b"new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_replace_link_stays_relative(tmp_path: Path) -> None:
    for target in ("one", "two"):
        _fs.replace_link(target, str(tmp_path / "current"))
        assert os.readlink(tmp_path / "current") == target and os.listdir(tmp_path) == ["current"]


def test_disk_space_of_a_path_that_is_not_there_yet(tmp_path: Path) -> None:
    assert _fs.nearest_existing(str(tmp_path / "a" / "b")) == str(tmp_path)
    free, total = _fs.disk_space(str(tmp_path / "a" / "b"))
    assert 0 <= free <= total and total == _fs.disk_space(str(tmp_path))[1]


@pytest.mark.parametrize("content", [b"", b"x", b"y" * (_fs.READ_SIZE + 1)], ids=["empty", "small", "two blocks"])
def test_sha256(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert _fs.sha256_file(str(tmp_path / "file"), sync=True) == hashlib.sha256(content).hexdigest()


def test_sha256_of_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    hashes = _fs.sha256_files({name: str(tmp_path / name) for name in ("real", "link", "none")})
    assert hashes["real"] == hashlib.sha256(b"x").hexdigest()
    assert hashes["none"] == "unreadable (No such file or directory)" and hashes["link"].startswith("unreadable")


def test_lock_goes_with_the_process(tmp_path: Path) -> None:
    path = str(tmp_path / "lock" / "x")
    with _fs.locked(path, 0), pytest.raises(_fs.HostError, match="another run holds") as err, _fs.locked(path, 0.3):
        pass
    assert err.value.code == "locked"
    code = f"import fcntl,os; fcntl.flock(open({path!r}), fcntl.LOCK_EX); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with _fs.locked(path, 0):
        pass
