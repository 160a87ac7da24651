# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pathlib
import sys
import time

import pytest
from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError
from ansible_collections.llmops.fleet.plugins.module_utils._http import Client, SseDecoder, TransportError
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "fixtures" / "probes"))
import engine_double

STREAM = engine_double.fixture("chat_stream.sse")


@pytest.fixture(autouse=True)
def _no_proxy_is_used(monkeypatch):
    """A proxy of the environment leads nowhere: whatever goes through it fails."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{engine_double.closed_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def transport_error(url, **options):
    with pytest.raises(TransportError) as caught:
        Client(**{"timeout": 5, **options}).send("GET", url)
    return caught.value


def test_a_request_and_its_answer():
    with engine_double.running() as server:
        reply = Client(5, api_key="sk-1").send("POST", f"{server.url}/v1/rerank", {"query": "巴黎"})
    assert (reply.status, reply.content_type, reply.events) == (200, "application/json", ())
    assert reply.body == engine_double.fixture("rerank.json")
    [(method, path, headers, body)] = server.requests
    assert (method, path, body) == ("POST", "/v1/rerank", {"query": "巴黎"})
    assert headers["Authorization"] == "Bearer sk-1"
    assert headers["Content-Type"] == "application/json"


def test_without_a_key_there_is_no_authorization():
    with engine_double.running() as server:
        Client(5).send("GET", f"{server.url}/v1/models")
    assert "Authorization" not in server.requests[0][2]


def test_events_of_a_stream():
    with engine_double.running() as server:
        reply = Client(5).send("POST", f"{server.url}/v1/chat/completions", {"stream": True}, stream=True)
    assert reply.content_type.startswith("text/event-stream")
    assert len(reply.events) == 11
    assert reply.events[-1] == "[DONE]"


def test_a_stream_that_is_none_has_its_body():
    with engine_double.running(stream="chat_answer.json") as server:
        reply = Client(5).send("POST", f"{server.url}/v1/chat/completions", {"stream": True}, stream=True)
    assert reply.events == ()
    assert reply.body == engine_double.fixture("chat_answer.json")


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
def test_every_status_is_an_answer(status):
    with engine_double.running(models=(status, "application/json", b"{}")) as server:
        reply = Client(5).send("GET", f"{server.url}/v1/models")
    assert (reply.status, reply.body) == (status, b"{}")


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_not_followed_with_the_key(status):
    with engine_double.running() as other, engine_double.running() as server:
        server.answers["models"] = (status, "text/plain", f"{other.url}/v1/models".encode())
        assert Client(5, api_key="sk-1").send("GET", f"{server.url}/v1/models").status == status
    assert other.requests == []


def test_a_proxy_is_used_only_when_asked_for():
    with engine_double.running() as server:
        assert transport_error(f"{server.url}/v1/models", use_proxy=True).kind == "connection"
        assert server.requests == []
        assert Client(5).send("GET", f"{server.url}/v1/models").status == 200


def test_a_proxy_that_is_asked_for_gets_the_request(monkeypatch):
    with engine_double.running() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        Client(5, use_proxy=True).send("GET", "http://engine.invalid/v1/models")
    assert proxy.requests[0][1] == "http://engine.invalid/v1/models"


def test_connection_refused():
    error = transport_error(f"http://127.0.0.1:{engine_double.closed_port()}/v1/models")
    assert (error.kind, str(error)) == ("connection", "connection refused")


def test_host_name_that_is_none():
    error = transport_error("http://engine.invalid/v1/models")
    assert error.kind == "connection"
    assert str(error).startswith("host name not resolved: ")


@pytest.mark.parametrize(
    ("pieces", "kind", "message"),
    [
        ([b""], "connection", "connection failed: "),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"], "connection", "connection closed with 7 bytes of the an"),
        (
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\ndata"],
            "connection",
            "connection closed in the middle of the answer",
        ),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "protocol", "not an HTTP answer: BadStatusLine SSH-2.0-OpenSSH_9.2"),
    ],
)
def test_broken_answers(pieces, kind, message):
    with engine_double.raw(*pieces) as url:
        error = transport_error(url)
    assert error.kind == kind
    assert str(error).startswith(message)


def test_tls_to_a_plain_server():
    with engine_double.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        error = transport_error(url.replace("http:", "https:"))
    assert error.kind == "protocol"
    assert str(error).startswith("TLS: ")


@pytest.mark.parametrize("url", ["http://[::1", "http://a b/", "http://127.0.0.1:99999/", "http://127.0.0.1:1/\n"])
def test_a_url_that_is_none_is_no_crash(url):
    assert transport_error(url).kind in ("protocol", "connection")


def test_a_silent_server_times_out():
    with engine_double.raw(b"", pause=5) as url:
        error = transport_error(url, timeout=0.1)
    assert (error.kind, str(error)) == ("timeout", "no complete answer within 0.1 s")


def test_a_server_that_drips_times_out():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    with engine_double.raw(head, *[b"x"] * 1000, pause=0.02) as url:
        start = time.monotonic()
        error = transport_error(url, timeout=0.2)
    assert error.kind == "timeout"
    assert time.monotonic() - start < 5


def test_an_endless_answer_ends(monkeypatch):
    monkeypatch.setattr("ansible_collections.llmops.fleet.plugins.module_utils._http.MAX_BODY", 2**20)
    with engine_double.raw(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 2**16] * 64) as url:
        error = transport_error(url)
    assert (error.kind, str(error)) == ("protocol", "the answer is longer than 1 MiB")


@pytest.mark.parametrize("key", ["sk 1", "sk\n1", "sk-ключ"])
def test_a_key_that_no_header_holds_is_refused_without_being_shown(key):
    with pytest.raises(SpecError) as caught:
        Client(5, api_key=key)
    assert caught.value.path == "api_key"
    assert "sk" not in caught.value.problem


def test_certificates_that_are_none(tmp_path):
    (tmp_path / "ca.pem").write_text("none")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(SpecError, match=f"ca_path: cannot be read as PEM certificates .*{name}"):
            Client(5, ca_path=str(tmp_path / name))


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_a_stream_reads_the_same_wherever_it_is_cut(cuts):
    places = [0, *sorted(cuts), len(STREAM)]
    decoder = SseDecoder()
    pieces = [STREAM[start:end] for start, end in zip(places, places[1:])]
    assert [event for piece in pieces for event in decoder.feed(piece)] == SseDecoder().feed(STREAM)


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data:a\n\n", ["a"]),
        (b"data:  a\n\n", [" a"]),
        (b": ping\n\nevent: x\nid: 1\ndata: a\n\n", ["a"]),
        (b"data\n\n", [""]),
        (b"data: cut off\n", []),
        ("data: 巴黎\u2028\n\n".encode(), ["巴黎\u2028"]),
        (b"data: \xff\n\n", ["\ufffd"]),
        (b"\n\n\n", []),
    ],
)
def test_server_sent_events(text, events):
    assert SseDecoder().feed(text) == events
