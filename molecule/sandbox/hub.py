#!/usr/bin/env python3
# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model hub for the sandbox and the unit tests: ModelScope's download API over a folder of repositories.

It speaks the requests that the real `modelscope_hub` client makes for a download (listing, file with Range, revisions,
repository), plus faults. It proves what the collection does with the hub's answers; it does not prove that the real hub
answers like this.

Folder:   ROOT/<owner>/<name>/...          the repository, as every revision shows it (master, v1.0.0, its commit id)
          ROOT/<owner>/<name>@<revision>/  what that revision shows instead, if it differs
Run:      hub.py ROOT [--host 0.0.0.0] [--port 80] [--private OWNER/NAME=TOKEN ...]
In tests: with Hub(root) as hub: ... hub.url, hub.faults["status"] = 500, hub.log
Control:  GET /          {"repos": [...]}            GET /_ctl    {"faults": {...}, "log": [...]}
          POST /_ctl     JSON object: sets the faults named in it, null removes one, {"reset": true} removes all of them
                         and empties the log

Faults (keys of `hub.faults`, of the body of POST /_ctl). PATH is a file's path in its repository, "*" means every file.
  status    500 | {"code": 500, "times": 2, "only": "list"|"file"}   every API request answers this (429: Retry-After)
  cut       {PATH: at} | {PATH: {"at": at, "times": 1}}   closes the connection at byte `at` of the file (0 < at < 1: at
            that share of it), for ever or so many times; with a Range behind `at` nothing is sent
  every     {PATH: n}              closes each response for it after n bytes, so that a client that resumes gets on
  corrupt   {PATH: offset} | {PATH: {"at": offset, "times": 1}}       flips a bit of that byte
  lie       {PATH: sha256 | true}  a wrong sha256 in the listing
  nosha     true                   no Sha256 in the listing
  nocommit  true                   an empty LatestCommitter.Id in the listing, as the real hub often has
  entries   [{"Path": ...}, ...]   more entries in the listing, as they are (a GET of them answers "evil\\n")
  traverse  true | "../../x"       the same for one entry that leads out of the folder
  norange   true                   ignores Range, answers 200 with the whole file
  redirect  true | "http://host"   302 to /_cdn/... here, or on that other host, for files
  rate      bytes per second, per connection
  delay     seconds before each answer
  private   {"OWNER/NAME": token}  needs `Authorization: Bearer token` (or the cookie m_session_id): 401 without one,
            403 with a wrong one
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

BRANCH, TAG = "master", "v1.0.0"
EVIL = b"evil\n"
CREATED = 1700000000
CHUNK = 1 << 18


class Answer(Exception):
    """An error answer: HTTP status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Repos:
    """The folder of repositories, its hashes cached by size and mtime."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).resolve()
        self._hashes: dict[tuple[str, int, int], str] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        found = (d for d in self.root.glob("*/*") if d.is_dir() and "@" not in d.name and not d.name.startswith("."))
        return sorted(d.relative_to(self.root).as_posix() for d in found)

    def sha256(self, path: Path) -> str:
        stat = path.stat()
        key = (str(path), stat.st_size, stat.st_mtime_ns)
        with self._lock:
            if key not in self._hashes:
                digest = hashlib.sha256()
                with path.open("rb") as stream:
                    while block := stream.read(1 << 22):
                        digest.update(block)
                self._hashes[key] = digest.hexdigest()
            return self._hashes[key]

    def revisions(self, repo: str) -> list[str]:
        """Tags of a repository: v1.0.0 and those that have a folder of their own."""
        owner, name = repo.split("/")
        own = {d.name.partition("@")[2] for d in (self.root / owner).glob(f"{name}@*")}
        return sorted({TAG} | own - {BRANCH})

    def directory(self, repo: str, revision: str) -> Path:
        owner, _, name = repo.partition("/")
        base = self.root / owner / name
        if repo not in self.names():
            raise Answer(404, f"model {repo} not found")
        if revision in (BRANCH, *self.revisions(repo)):
            own = base.with_name(f"{name}@{revision}")
            return own if own.is_dir() else base
        for known in (BRANCH, *self.revisions(repo)):
            directory = self.directory(repo, known)
            if len(revision) >= 7 and self.commit(directory).startswith(revision):
                return directory
        raise Answer(404, f"revision {revision} of model {repo} not found")

    @staticmethod
    def files(directory: Path) -> Iterator[tuple[str, Path]]:
        for path in sorted(directory.rglob("*")):
            yield path.relative_to(directory).as_posix(), path

    def commit(self, directory: Path) -> str:
        """40 hex digits that change when any byte or name of the repository changes."""
        lines = (f"{self.sha256(path)} {name}\n" for name, path in self.files(directory) if path.is_file())
        return hashlib.sha256("".join(lines).encode()).hexdigest()[:40]

    @staticmethod
    def file(directory: Path, name: str) -> Path:
        path = (directory / name).resolve()
        if directory.resolve() not in path.parents or not path.is_file():
            raise Answer(404, f"file {name} not found")
        return path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    answered: int | None = None

    def do_GET(self) -> None:
        self.answered = None
        try:
            self.route()
        except Answer as err:
            self.send_error_json(err.status, err.message)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_GET

    def do_POST(self) -> None:
        hub = self.server.hub
        try:
            if urlsplit(self.path).path != "/_ctl":
                raise Answer(404, "no such path")
            self.answered = None
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            if not isinstance(body, dict):
                raise Answer(400, "POST /_ctl wants a JSON object")
        except ValueError as err:
            self.send_error_json(400, f"not JSON: {err}")
        except Answer as err:
            self.send_error_json(err.status, err.message)
        else:
            hub.control(body)
            self.send_json({"faults": hub.faults})

    def route(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        hub = self.server.hub
        if parts == [""]:
            return self.send_json({"repos": hub.repos.names()})
        if parts == ["_ctl"]:
            return self.send_json({"faults": hub.faults, "log": list(hub.log)})
        time.sleep(float(hub.faults.get("delay") or 0))
        if parts[0] == "_cdn" and len(parts) > 4:
            repo, revision, name = "/".join(parts[1:3]), parts[3], "/".join(parts[4:])
            return self.send_file(hub.repos.directory(repo, revision), name)
        if parts[:3] != ["api", "v1", "models"] or len(parts) < 5:
            raise Answer(404, f"no such path: {url.path}")
        repo, rest, revision = "/".join(parts[3:5]), parts[5:], query.get("Revision", BRANCH)
        self.fail_if_told("list" if rest == ["repo", "files"] else "file" if rest == ["repo"] else "other")
        self.authorize(repo)
        directory = hub.repos.directory(repo, revision)
        if rest == ["repo", "files"]:
            self.send_json({"Code": 200, "Success": True, "Message": "success", "Data": self.listing(directory, query)})
        elif rest == ["repo"]:
            self.send_repo_file(repo, revision, directory, query.get("FilePath", ""))
        elif rest == ["revisions"]:
            tags = [{"Revision": tag, "CreatedAt": CREATED} for tag in hub.repos.revisions(repo)]
            branches = [{"Revision": BRANCH, "CreatedAt": CREATED}]
            revisions = {"Branches": branches, "Tags": tags}
            self.send_json({"Code": 200, "Success": True, "Data": {"RevisionMap": revisions}})
        elif not rest:
            self.send_json({"Code": 200, "Success": True, "Data": {"Id": 1, "Path": parts[3], "Name": parts[4]}})
        else:
            raise Answer(404, f"no such path: {url.path}")

    def fail_if_told(self, kind: str) -> None:
        fault = self.server.hub.faults.get("status")
        if not fault:
            return
        if not isinstance(fault, Mapping):
            raise Answer(int(fault), "a fault of the hub, as told")
        if fault.get("only", kind) == kind and self.server.hub.use_up("status", fault):
            raise Answer(int(fault["code"]), "a fault of the hub, as told")

    def authorize(self, repo: str) -> None:
        token = (self.server.hub.faults.get("private") or {}).get(repo)
        if token is None:
            return
        given = {self.headers.get("Authorization", "").partition("Bearer ")[2]}
        cookies = (part.strip().partition("=") for part in self.headers.get("Cookie", "").split(";"))
        given |= {value for key, _, value in cookies if key == "m_session_id"}
        if not given - {""}:
            raise Answer(401, f"model {repo} is private: log in first")
        if token not in given:
            raise Answer(403, f"model {repo}: access denied")

    def listing(self, directory: Path, query: Mapping[str, str]) -> dict[str, Any]:
        hub, root, entries = self.server.hub, query.get("Root", "").strip("/"), []
        recursive = query.get("Recursive", "False").lower() == "true"
        commit = hub.repos.commit(directory)
        for name, path in hub.repos.files(directory):
            below = name[len(root) + 1 :] if root and name.startswith(root + "/") else "" if root else name
            if not below or ("/" in below and not recursive):
                continue
            entry: dict[str, Any] = {"Name": path.name, "Path": name, "Revision": commit, "CommittedDate": CREATED}
            if path.is_dir():
                entry.update(Type="tree", Size=0, Sha256="", Mode="16384")
            else:
                lie = hub.for_path("lie", name)
                sha256 = hub.repos.sha256(path)
                if lie:
                    sha256 = lie if isinstance(lie, str) else hashlib.sha256(sha256.encode()).hexdigest()
                size = path.stat().st_size
                entry.update(Type="blob", Size=size, Sha256=sha256, IsLFS=size > 1 << 20, Mode="33188")
            entries.append(entry)
        entries += hub.extra_entries()
        if hub.faults.get("nosha"):
            entries = [{key: value for key, value in entry.items() if key != "Sha256"} for entry in entries]
        committer = {"Id": "" if hub.faults.get("nocommit") else commit, "ShortId": commit[:8], "ParentIds": []}
        return {"Files": entries, "IsVisual": 0, "LatestCommitter": committer}

    def send_repo_file(self, repo: str, revision: str, directory: Path, name: str) -> None:
        hub = self.server.hub
        if any(entry.get("Path") == name for entry in hub.extra_entries()):
            return self.send_bytes(EVIL)
        redirect = hub.faults.get("redirect")
        if not redirect:
            return self.send_file(directory, name)
        hub.repos.file(directory, name)
        host = redirect if isinstance(redirect, str) else f"http://{self.headers.get('Host')}"
        target = f"{host.rstrip('/')}/_cdn/{repo}/{quote(revision)}/{quote(name)}?signature=1"
        self.start(302, {"Location": target, "Content-Length": "0"})

    def send_file(self, directory: Path, name: str) -> None:
        hub = self.server.hub
        path = hub.repos.file(directory, name)
        size = path.stat().st_size
        ranged = None if hub.faults.get("norange") else parse_range(self.headers.get("Range"), size)
        if ranged and ranged[0] >= size:
            return self.start(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
        start, end = ranged or (0, size - 1)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(end - start + 1)}
        if not hub.faults.get("norange"):
            headers["Accept-Ranges"] = "bytes"
        if ranged:
            headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        self.start(206 if ranged else 200, headers)
        if self.command != "HEAD":
            self.send_body(path, name, start, end, size)

    def send_body(self, path: Path, name: str, start: int, end: int, size: int) -> None:
        hub = self.server.hub
        stop, every = end + 1, hub.for_path("every", name)
        if every:
            stop = min(stop, start + int(every))
        cut = hub.point("cut", name, size)
        if cut is not None and cut < stop and hub.use_up_path("cut", name):
            stop = max(start, cut)
        flip = hub.point("corrupt", name, size)
        if flip is not None and not (start <= flip < stop and hub.use_up_path("corrupt", name)):
            flip = None
        rate, began, at = float(hub.faults.get("rate") or 0), time.monotonic(), start
        with path.open("rb") as stream:
            stream.seek(start)
            while at < stop:
                block = bytearray(stream.read(min(CHUNK, stop - at)))
                if flip is not None and at <= flip < at + len(block):
                    block[flip - at] ^= 1
                self.wfile.write(block)
                at += len(block)
                if rate:
                    time.sleep(max(0.0, (at - start) / rate - (time.monotonic() - began)))
        if stop <= end:
            self.wfile.flush()
            self.close_connection = True

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        self.answered = status
        self.server.hub.note(self, status)
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def send_bytes(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.start(status, {"Content-Length": str(len(body)), **headers})
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_json(self, value: Any, status: int = 200, **headers: str) -> None:
        self.send_bytes(json.dumps(value).encode() + b"\n", status, **{"Content-Type": "application/json", **headers})

    def send_error_json(self, status: int, message: str) -> None:
        if self.answered is not None:  # an answer has begun: nothing can be said any more
            self.close_connection = True
            return
        body = {"Code": 10010000000 + status, "Message": message, "RequestId": "sandbox", "Success": False}
        self.send_json(body, status, **({"Retry-After": "1"} if status == 429 else {}))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Requests are noted in Hub.log."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], hub: Hub) -> None:
        self.hub = hub
        super().__init__(address, Handler)


class Hub:
    """The hub in a thread: `with Hub(root) as hub:`, or .start() and .stop()."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        host: str = "127.0.0.1",
        port: int = 0,
        private: Mapping[str, str] | None = None,
        verbose: bool = False,
    ) -> None:
        self.repos = Repos(root)
        self.log: deque[dict[str, Any]] = deque(maxlen=10000)
        self._always: dict[str, Any] = {"private": dict(private)} if private else {}
        self.faults: dict[str, Any] = dict(self._always)
        self._lock = threading.Lock()
        self._used: dict[tuple[str, str], int] = {}
        self._verbose = verbose
        self._address = (host, port)
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        if self._server is None:
            raise RuntimeError("the hub is not started")
        return f"http://{self._address[0]}:{self._server.server_address[1]}"

    def start(self) -> Hub:
        self._server = Server(self._address, self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="hub", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        if self._server and self._thread:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        self._server = self._thread = None

    def __enter__(self) -> Hub:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def serve_forever(self) -> None:
        with Server(self._address, self) as server:
            server.serve_forever()

    def control(self, body: Mapping[str, Any]) -> None:
        with self._lock:
            if body.get("reset"):
                self.faults.clear()
                self.faults.update(self._always)
                self.log.clear()
                self._used.clear()
            for key, value in body.items():
                if key == "reset":
                    continue
                self._used = {use: count for use, count in self._used.items() if use[0] != key}
                self.faults.pop(key, None)
                if value is not None:
                    self.faults[key] = value

    def for_path(self, fault: str, name: str) -> Any:
        table = self.faults.get(fault) or {}
        return table.get(name, table.get("*"))

    def point(self, fault: str, name: str, size: int) -> int | None:
        """The byte that `cut` or `corrupt` names for a file; a share of it if between 0 and 1."""
        value = self.for_path(fault, name)
        at = value.get("at") if isinstance(value, Mapping) else value
        if at is None:
            return None
        return int(size * at) if 0 < at < 1 else int(at)

    def use_up_path(self, fault: str, name: str) -> bool:
        value = self.for_path(fault, name)
        return self.use_up(fault, value, name) if isinstance(value, Mapping) else True

    def use_up(self, fault: str, value: Mapping[str, Any], name: str = "") -> bool:
        """True while `times` of the fault are left (or it has none); counts this use."""
        with self._lock:
            used = self._used.get((fault, name), 0)
            self._used[(fault, name)] = used + 1
        times = value.get("times")
        return times is None or used < int(times)

    def extra_entries(self) -> list[dict[str, Any]]:
        entries = [dict(entry) for entry in self.faults.get("entries") or []]
        traverse = self.faults.get("traverse")
        if traverse:
            entries.append({"Path": traverse if isinstance(traverse, str) else "../../evil.txt"})
        sha256 = hashlib.sha256(EVIL).hexdigest()
        return [{"Type": "blob", "Size": len(EVIL), "Sha256": sha256, "Name": "evil.txt", **entry} for entry in entries]

    def note(self, request: Handler, status: int) -> None:
        if request.path.startswith("/_ctl") or request.path == "/":
            return
        record = {
            "method": request.command,
            "path": request.path,
            "status": status,
            "range": request.headers.get("Range"),
            "auth": bool(request.headers.get("Authorization")),
            "agent": request.headers.get("User-Agent", ""),
        }
        self.log.append(record)
        if self._verbose:
            print(json.dumps(record), flush=True)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of `Range: bytes=a-`, `a-b` or `-n`; None without or with one that makes no sense."""
    unit, _, spec = (header or "").partition("=")
    first, _, last = spec.partition("-")
    try:
        if unit != "bytes" or not (first or last):
            return None
        if not first:
            return max(0, size - int(last)), size - 1
        start, end = int(first), min(int(last), size - 1) if last else size - 1
    except ValueError:
        return None
    return (start, end) if start <= end or start >= size else None


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="ModelScope's download API over a folder of repositories.")
    parser.add_argument("root")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--private", action="append", default=[], metavar="OWNER/NAME=TOKEN")
    args = parser.parse_args(argv)
    private = dict(item.split("=", 1) for item in args.private)
    hub = Hub(args.root, args.host, args.port, private, verbose=True)
    names = ", ".join(hub.repos.names()) or "no repositories"
    print(f"hub: {args.root} on {args.host}:{args.port}: {names}", flush=True)
    try:
        hub.serve_forever()
    except KeyboardInterrupt:
        print("hub: stopped", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
