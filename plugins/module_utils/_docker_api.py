# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's HTTP API over its unix socket with nothing but the standard library.

Starting the `docker` CLI takes longer than all the questions one run asks; the socket answers in milliseconds.
"""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse
from collections.abc import Mapping
from typing import Any

DEFAULT_SOCKET = "/var/run/docker.sock"
_FRAME_HEADER = 8


class DockerError(Exception):
    """Docker did not answer, or answered with an error. ``status`` is None where there was no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, socket_path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._socket_path = socket_path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._socket_path)


class DockerAPI:
    """A few calls of Docker's API. Paths carry no version, so each daemon speaks its newest."""

    def __init__(self, socket_path: str = DEFAULT_SOCKET, timeout: float = 10.0) -> None:
        self.socket_path = socket_path
        self.timeout = timeout

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """A decoded JSON answer (or text, for the few that are not JSON)."""
        return self._decode(path, self._request("GET", path, params))

    def ping(self) -> bool:
        return self._request("GET", "/_ping").strip() == b"OK"

    def logs(self, container: str, tail: int = 30) -> str:
        """The last lines that a container wrote, both streams, in their order."""
        path = f"/containers/{urllib.parse.quote(container, safe='')}/logs"
        return demux_logs(self._request("GET", path, {"stdout": "1", "stderr": "1", "tail": str(tail)}))

    def _request(
        self, method: str, path: str, params: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> bytes:
        target = path + ("?" + urllib.parse.urlencode(params) if params else "")
        payload = None if body is None else json.dumps(body).encode()
        headers = {} if payload is None else {"Content-Type": "application/json"}
        connection = _UnixConnection(self.socket_path, self.timeout)
        try:
            connection.request(method, target, body=payload, headers=headers)
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DockerError(f"Docker does not answer on {self.socket_path}: {reason}") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise DockerError(f"{method} {path}: {_error_message(data, response)}", response.status)
        return data

    @staticmethod
    def _decode(path: str, data: bytes) -> Any:
        if not data.strip():
            return None
        try:
            return json.loads(data)
        except ValueError as error:
            raise DockerError(f"{path}: Docker's answer is not JSON: {data[:80]!r}") from error


def _error_message(data: bytes, response: http.client.HTTPResponse) -> str:
    try:
        message = json.loads(data)["message"]
    except (ValueError, KeyError, TypeError):
        message = data.decode(errors="replace").strip()[:200]
    return f"{response.status} {response.reason}: {message}"


def demux_logs(data: bytes) -> str:
    """Text out of Docker's log stream: frames of [stream, 0, 0, 0, size] + bytes, or plain bytes from a TTY."""
    chunks: list[bytes] = []
    position = 0
    while position + _FRAME_HEADER <= len(data):
        header = data[position : position + _FRAME_HEADER]
        if header[0] > 2 or header[1:4] != b"\0\0\0":
            break
        size = int.from_bytes(header[4:], "big")
        chunks.append(data[position + _FRAME_HEADER : position + _FRAME_HEADER + size])
        position += _FRAME_HEADER + size
    if position < len(data):
        chunks.append(data[position:])
    return b"".join(chunks).decode("utf-8", errors="replace")
