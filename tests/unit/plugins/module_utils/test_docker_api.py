# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import socketserver
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from ansible_collections.llmops.fleet.plugins.module_utils._docker_api import DockerAPI, DockerError, demux_logs
from hypothesis import given
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[3] / "fixtures" / "hosts" / "debian-12"
LOGS = bytes.fromhex((FIXTURES / "docker-logs.hex").read_text())


class DockerDouble(BaseHTTPRequestHandler):
    """A double of dockerd: real HTTP on a real unix socket, answers recorded from Docker 20.10 where it has them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/_ping":
            self.answer(200, b"OK")
        elif path == "/version":
            self.answer(200, (FIXTURES / "docker-version.json").read_bytes())
        elif path == "/containers/json" and query == "all=1":
            self.answer(200, (FIXTURES / "docker-containers.json").read_bytes())
        elif path == "/containers/a%20b/logs" and query == "stdout=1&stderr=1&tail=7":
            self.answer(200, LOGS)
        elif path == "/plain":
            self.answer(500, b"panic: no JSON here")
        elif path == "/html":
            self.answer(200, b"<html>")
        elif path == "/hangup":
            self.close_connection = True
        else:
            self.answer(404, b'{"message":"page not found"}')

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sent = {"path": self.path, "type": self.headers.get("Content-Type"), "body": body.decode()}
        self.answer(201, json.dumps(sent).encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "unix"

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def api():
    # Not tmp_path: a unix socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "docker.sock")
        with socketserver.ThreadingUnixStreamServer(path, DockerDouble) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            yield DockerAPI(path, timeout=5)
            server.shutdown()
            thread.join()


def test_reads_what_docker_answers(api):
    assert api.ping() is True
    assert api.get("/version")["Version"] == "20.10.24+dfsg1"
    assert len(api.get("/containers/json", {"all": "1"})) == 4


def test_logs_carry_both_streams(api):
    assert api.logs("a b", tail=7) == "out\nerr\n"


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/nowhere", 404, "GET /nowhere: 404 Not Found: page not found"),
        ("/plain", 500, "GET /plain: 500 Internal Server Error: panic: no JSON here"),
        ("/html", None, "/html: Docker's answer is not JSON"),
        ("/hangup", None, "Docker does not answer"),
    ],
)
def test_errors_say_what_docker_said(api, path, status, message):
    with pytest.raises(DockerError, match=r"^[^\n]+$") as caught:
        api.get(path)
    assert message in str(caught.value)
    assert caught.value.status == status


def test_no_socket_is_one_clear_error(tmp_path):
    with pytest.raises(DockerError, match=r"Docker does not answer on .*none\.sock: No such file or directory"):
        DockerAPI(str(tmp_path / "none.sock")).ping()


def test_demux_of_the_recorded_stream():
    assert demux_logs(LOGS) == "out\nerr\n"


@pytest.mark.parametrize("text", [b"plain text\r\n", b"\x07\0\0\0\0\0\0\x01 bell and padding", b"short"])
def test_demux_leaves_a_ttys_text_alone(text):
    assert demux_logs(text) == text.decode()


def test_demux_keeps_a_cut_off_frame():
    assert demux_logs(LOGS[:-2]) == "out\ner"


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.text())))
def test_demux_gives_back_every_frame(frames):
    stream = b"".join(
        bytes([number, 0, 0, 0]) + len(text.encode()).to_bytes(4, "big") + text.encode() for number, text in frames
    )
    assert demux_logs(stream) == "".join(text for _number, text in frames)


@given(st.binary())
def test_demux_never_raises(data):
    assert isinstance(demux_logs(data), str)
