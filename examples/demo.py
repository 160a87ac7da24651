#!/usr/bin/env python3
# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talk to the chat, embedding and rerank services of a fleet as an application does.

The chat and embedding services speak OpenAI's API, so OpenAI's SDK and LangChain need nothing but a base URL. The
rerank service speaks the API that Jina and Cohere have in common, one POST.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.request
from collections.abc import Callable
from urllib.parse import urlsplit

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from openai import OpenAI

QUESTION = "What is the capital of France?"


@tool
def get_weather(city: str) -> str:
    """Current weather in a city."""
    return f"It is sunny in {city}, 22 degrees."


def chat_with_openai(options: argparse.Namespace) -> None:
    client = OpenAI(base_url=options.chat_url, api_key=options.api_key, timeout=options.timeout)
    messages = [{"role": "user", "content": QUESTION}]

    show("chat, OpenAI SDK", QUESTION)
    answer = client.chat.completions.create(
        model=options.chat_model, messages=messages, temperature=0, max_tokens=options.max_tokens
    )
    got(require(answer.choices[0].message.content, "an empty answer"))

    show("chat, OpenAI SDK, streamed", QUESTION)
    stream = client.chat.completions.create(
        model=options.chat_model, messages=messages, temperature=0, max_tokens=options.max_tokens, stream=True
    )
    pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices and chunk.choices[0].delta.content]
    got(f"{require(''.join(pieces), 'an empty stream')}   ({len(pieces)} pieces)")


def chat_with_langchain(options: argparse.Namespace) -> None:
    model = ChatOpenAI(
        base_url=options.chat_url,
        api_key=options.api_key,
        model=options.chat_model,
        temperature=0,
        max_tokens=options.max_tokens,
        timeout=options.timeout,
    )
    question = "What is the weather in Paris?"
    show("tool call, LangChain", question)
    # strict makes the engine keep to the tool's schema, which even a very small model can do; required makes it call
    message = model.bind_tools([get_weather], tool_choice="required", strict=True).invoke(question)
    require(message.tool_calls, f"no valid tool call; invalid: {message.invalid_tool_calls}, text: {message.text!r}")
    for call in message.tool_calls:
        got(f"{call['name']}({json.dumps(call['args'], ensure_ascii=False)}) -> {get_weather.invoke(call['args'])}")


def embed_with_langchain(options: argparse.Namespace) -> None:
    embeddings = OpenAIEmbeddings(
        base_url=options.embed_url,
        api_key=options.api_key,
        model=options.embed_model,
        timeout=options.timeout,
        # Otherwise LangChain sends token numbers of OpenAI's own tokenizer, which mean nothing to other models
        check_embedding_ctx_length=False,
    )
    texts = ["A cat is sleeping on the sofa.", "A kitten is napping on the couch.", "Interest rates were raised."]
    show("embedding, LangChain", " | ".join(texts))
    base, *others = embeddings.embed_documents(texts)
    got(f"{len(base)} dimensions, similarity to the first: {', '.join(f'{dot(base, other):.2f}' for other in others)}")


def embed_with_openai(options: argparse.Namespace) -> None:
    client = OpenAI(base_url=options.embed_url, api_key=options.api_key, timeout=options.timeout)
    show("embedding, OpenAI SDK", QUESTION)
    answer = client.embeddings.create(model=options.embed_model, input=[QUESTION])
    got(f"{len(require(answer.data[0].embedding, 'an empty embedding'))} dimensions")


def rerank(options: argparse.Namespace) -> None:
    documents = [
        "Bread is baked from flour, water and yeast.",
        "Berlin is the largest city in Germany.",
        "Plants turn sunlight into chemical energy.",
        "Paris is the capital of France.",
        "The Great Wall of China is thousands of kilometres long.",
    ]
    show("rerank, HTTP", QUESTION)
    request = urllib.request.Request(
        f"{options.rerank_url}/rerank",
        data=json.dumps({"model": options.rerank_model, "query": QUESTION, "documents": documents}).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {options.api_key}"},
    )
    with urllib.request.urlopen(request, timeout=options.timeout) as response:
        results = json.load(response)["results"]
    for result in require(results, "no results"):
        got(f"{result['relevance_score']:.3f}  {documents[result['index']]}")


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def show(what: str, question: str) -> None:
    print(f"\n[{what}]\n  asked: {question}")


def got(text: str) -> None:
    print(f"  got:   {text.strip()}")


def require(value, problem: str):
    if not value:
        raise ValueError(problem)
    return value


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-url", help="one URL for all services, as of a gateway, with or without /v1")
    for service in ("chat", "embed", "rerank"):
        parser.add_argument(f"--{service}-url", help=f"URL of the {service} service, instead of --base-url")
    parser.add_argument("--api-key", default=os.environ.get("OPENAI_API_KEY", "none"), help="default: $OPENAI_API_KEY")
    parser.add_argument("--chat-model", default="chat", help="name of the chat service (default: %(default)s)")
    parser.add_argument("--embed-model", default="embed", help="name of the embedding service (%(default)s)")
    parser.add_argument("--rerank-model", default="rerank", help="name of the rerank service (%(default)s)")
    parser.add_argument("--max-tokens", type=int, default=128, help="give a reasoning model more (%(default)s)")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one request (default: %(default)s)")
    options = parser.parse_args(arguments)
    for name in ("chat_url", "embed_url", "rerank_url"):
        url = getattr(options, name) or options.base_url
        if not url:
            parser.error(f"give --base-url or --{name.replace('_', '-')}")
        setattr(options, name, url.rstrip("/").removesuffix("/v1") + "/v1")
    return options


def main() -> int:
    options = parse_arguments()
    # A company's proxy must not get what is meant for a machine beside us
    hosts = {urlsplit(url).hostname or "" for url in (options.chat_url, options.embed_url, options.rerank_url)}
    direct = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), *sorted(hosts)]))
    os.environ.update(no_proxy=direct, NO_PROXY=direct)

    parts: list[tuple[str, str, Callable[[argparse.Namespace], None]]] = [
        ("chat", options.chat_url, chat_with_openai),
        ("tool call", options.chat_url, chat_with_langchain),
        ("embedding", options.embed_url, embed_with_openai),
        ("embedding", options.embed_url, embed_with_langchain),
        ("rerank", options.rerank_url, rerank),
    ]
    failures = []
    for name, url, part in parts:
        try:
            part(options)
        except Exception as exc:  # whatever a client raises ends in one line
            failures.append(f"{name} at {url} failed: {type(exc).__name__}: {' '.join(str(exc).split())[:300]}")
    sys.stdout.flush()
    for line in failures:
        print(line, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
