#!/usr/bin/env python3
# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for an inference engine: takes vLLM's command line, answers its API in the right shape, content canned.

For benchmarks of the deployment (24 engines fit no test machine) and for tests of what the collection does when an
engine ends or never becomes healthy. It loads no model, reads no weights and knows nothing: what passes with it says
that containers, ports, healthchecks and logs are handled, and nothing about inference. Known-answer probes fail on it,
rightly.

STANDIN_EXIT=1           prints 40 numbered log lines and exits with that status
STANDIN_NEVER_HEALTHY=1  answers 503 on /health for ever
STANDIN_DELAY=SECONDS    answers 503 on /health for so long
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DIMENSION = 384
STARTED = time.monotonic()


def option(argv: list[str], name: str, default: str) -> str:
    """The value of `--name VALUE` or `--name=VALUE`; every other flag is ignored."""
    for index, word in enumerate(argv):
        if word == name and index + 1 < len(argv):
            return argv[index + 1]
        if word.startswith(name + "="):
            return word.partition("=")[2]
    return default


def vector(text: str) -> list[float]:
    """A unit vector out of the text's hash."""
    seed = hashlib.sha256(text.encode()).digest()
    raw = [seed[index % 32] - 127.5 + index % 7 for index in range(DIMENSION)]
    norm = sum(value * value for value in raw) ** 0.5
    return [value / norm for value in raw]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model = "standin"

    def answer(self, body: Any, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path == "/health":
            waiting = time.monotonic() - STARTED < float(os.environ.get("STANDIN_DELAY") or 0)
            self.answer({}, 503 if waiting or os.environ.get("STANDIN_NEVER_HEALTHY") == "1" else 200)
        elif self.path == "/v1/models":
            self.answer({"object": "list", "data": [{"id": self.model, "object": "model", "owned_by": "standin"}]})
        elif self.path == "/version":
            self.answer({"version": "standin"})
        else:
            self.answer({"error": {"message": "Not Found", "code": 404}}, 404)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        name = self.path.rpartition("/")[2]
        common = {"id": "standin-1", "created": int(time.time()), "model": self.model, "usage": usage}
        if self.path == "/v1/chat/completions":
            message = {"role": "assistant", "content": "This is a stand-in, it knows nothing."}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self.answer({**common, "object": "chat.completion", "choices": [choice]})
        elif self.path == "/v1/embeddings":
            texts = request.get("input", "")
            texts = [texts] if isinstance(texts, str) else texts
            data = [{"object": "embedding", "index": i, "embedding": vector(str(t))} for i, t in enumerate(texts)]
            self.answer({**common, "object": "list", "data": data})
        elif name == "rerank":
            texts = [str(text) for text in request.get("documents", [])]
            scored = [{"index": i, "document": {"text": t}, "relevance_score": 0.5} for i, t in enumerate(texts)]
            self.answer({**common, "results": scored[: request.get("top_n") or None]})
        else:
            self.answer({"error": {"message": "Not Found", "code": 404}}, 404)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        print(f"INFO standin {self.command} {self.path}", flush=True)


def main(argv: list[str]) -> int:
    if os.environ.get("STANDIN_EXIT"):
        for number in range(1, 41):
            print(f"ERROR standin log line {number:02d} of 40: ends as told by STANDIN_EXIT", flush=True)
        return int(os.environ["STANDIN_EXIT"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the first process of a container has no default action
    positional = argv[0] if argv and not argv[0].startswith("-") else "standin"
    Handler.model = option(argv, "--served-model-name", option(argv, "--model", positional))
    host, port = option(argv, "--host", "0.0.0.0"), int(option(argv, "--port", "8000"))
    print(f"INFO standin serves {Handler.model} on {host}:{port}; arguments: {json.dumps(argv)}", flush=True)
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer((host, port), Handler).serve_forever()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(0)
