# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on a host: atomic writes and links, free space, hashes, locks. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

READ_SIZE = 8 * 1024 * 1024


class HostError(RuntimeError):
    """Something on a host, or reached from it, that stops the work.

    ``code`` is a word for programs (``no_space``, ``network``, ...), ``problem`` a sentence for people.
    """

    def __init__(self, code: str, problem: str) -> None:
        super().__init__(problem)
        self.code = code
        self.problem = problem


def fsync_dir(path: str) -> None:
    """Make renames in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def atomic_write(path: str, data: bytes, mode: int = 0o644) -> None:
    """Replace a file by a rename, so that a reader sees the old content or the new one."""
    directory = os.path.dirname(path)
    fd, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=directory)
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(data)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    fsync_dir(directory)


def atomic_write_json(path: str, value: Any, mode: int = 0o644) -> None:
    atomic_write(path, json.dumps(value, indent=1, sort_keys=True).encode() + b"\n", mode)


def replace_link(target: str, link: str) -> None:
    """Point a symbolic link at ``target`` (taken as it is, so a relative one stays relative) by a rename."""
    directory = os.path.dirname(link)
    temporary = os.path.join(directory, f".{os.path.basename(link)}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, link)
    fsync_dir(directory)


def nearest_existing(path: str) -> str:
    """The path itself or its nearest parent that exists."""
    current = os.path.abspath(path)
    while not os.path.exists(current):
        current = os.path.dirname(current)
    return current


def disk_space(path: str) -> tuple[int, int]:
    """Bytes free for users and in total on the file system that holds, or would hold, ``path``."""
    stat = os.statvfs(nearest_existing(path))
    return stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize


def gib(size: int) -> str:
    return f"{size / 1024**3:.2f} GiB"


def sha256_file(path: str, sync: bool = False) -> str:
    """SHA-256 of a regular file, read past the page cache where the kernel lets us; no link is followed."""
    digest = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(fd, "rb", buffering=0) as stream:
        if sync:
            os.fsync(fd)
        block = bytearray(READ_SIZE)
        view = memoryview(block)
        while True:
            count = stream.readinto(block)
            if not count:
                break
            digest.update(view[:count])
        with contextlib.suppress(AttributeError, OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return digest.hexdigest()


def sha256_files(paths: Mapping[str, str], sync: bool = False, workers: int = 0) -> dict[str, str]:
    """SHA-256 by name of several files at once, the largest first; an unreadable one has its error as hash."""

    def one(name: str) -> tuple[str, str]:
        try:
            return name, sha256_file(paths[name], sync)
        except OSError as err:
            return name, f"unreadable ({err.strerror})"

    def size(name: str) -> int:
        with contextlib.suppress(OSError):
            return os.path.getsize(paths[name])
        return 0

    with ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1)) as pool:
        return dict(pool.map(one, sorted(paths, key=size, reverse=True)))


@contextlib.contextmanager
def locked(path: str, timeout: float) -> Iterator[None]:
    """Hold an exclusive lock on a file; it goes with the process, however that ends."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with open(path, "a", encoding="ascii") as stream:
        end = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as err:
                if err.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
            if time.monotonic() >= end:
                raise HostError("locked", f"another run holds {path} for more than {timeout:g} s; wait for it to end")
            time.sleep(0.2)
        yield


def prune_empty_dirs(paths: Iterable[str]) -> None:
    """Remove those of the directories that are empty."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.rmdir(path)
