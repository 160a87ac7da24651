# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import random
from pathlib import PurePosixPath
from typing import Any

import pytest
from ansible_collections.llmops.fleet.plugins.module_utils._manifest import (
    LISTING_LIMIT,
    ManifestError,
    ModelFile,
    check_path,
    diff_lines,
    is_left_out,
    manifest_sha256,
    missing_shards,
    parse_listing,
    parse_recorded,
    safetensors_header_size,
    safetensors_problem,
    selected,
)
from hypothesis import given
from hypothesis import strategies as st

A, B = "a" * 64, "b" * 64


def entry(path: Any, **other: Any) -> dict[str, Any]:
    return {"Path": path, "Type": "blob", "Size": 10, "Sha256": A, **other}


def listing(*entries: dict[str, Any], **other: Any) -> dict[str, Any]:
    return {"Files": [entry("model.safetensors"), *entries], **other}


files = st.builds(
    ModelFile,
    path=st.text(st.characters(min_codepoint=33, blacklist_categories=["Cs"]), min_size=1, max_size=20),
    size=st.integers(0, 2**45),
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
)


@given(st.lists(files, max_size=8), st.randoms(use_true_random=False))
def test_manifest_digest_does_not_depend_on_the_order(listed: list[ModelFile], rng: random.Random) -> None:
    shuffled = list(listed)
    rng.shuffle(shuffled)
    assert manifest_sha256(shuffled) == manifest_sha256(listed)


@given(st.lists(files, min_size=1, max_size=5, unique=True), files)
def test_manifest_digest_depends_on_every_file(listed: list[ModelFile], other: ModelFile) -> None:
    if other not in listed:
        assert manifest_sha256([*listed[1:], other]) != manifest_sha256(listed)
    assert manifest_sha256(listed[1:]) != manifest_sha256(listed)


def test_manifest_digest_is_of_the_documented_lines() -> None:
    two = [ModelFile("b", 2, B), ModelFile("a", 1, A)]
    assert manifest_sha256(two) == hashlib.sha256(f"{A} 1 a\n{B} 2 b\n".encode()).hexdigest()
    assert diff_lines(two) == [f"{A[:12]} 1 a", f"{B[:12]} 2 b"]


@given(st.one_of(st.text(max_size=40), st.text("a./\\\0\n~", max_size=12)))
def test_a_path_that_passes_stays_inside(path: str) -> None:
    try:
        checked = check_path(path)
    except ManifestError as err:
        assert err.code == "unsafe_path"
        return
    parts = PurePosixPath("/store") / checked
    assert checked == path and parts.parts[:2] == ("/", "store") and ".." not in parts.parts
    assert str(parts) == f"/store/{path}" and len(parts.parts) > 2
    assert not set(path) & set("\\\0\n\r\t")


@pytest.mark.parametrize(
    "path",
    [
        "../x", "/etc/passwd", "a/../../x", "a//b", "./a", "a/.", "a/", "..", ".", "", "a\\b", "a\0b", "a\nb",
        "x" * 256,
        "\ud800", ".model.json", ".model.json/x", None, 7, ["a"], "/".join(["a" * 200] * 6), "汉" * 86,
    ],
)  # fmt: skip
def test_paths_that_are_refused(path: Any) -> None:
    with pytest.raises(ManifestError) as err:
        parse_listing(listing(entry(path)))
    assert err.value.code == "unsafe_path"
    with pytest.raises(ManifestError):
        parse_recorded({path: {"size": 1, "sha256": A}} if not isinstance(path, list) else {"../": {}})


@pytest.mark.parametrize(
    "path", ["a", "a/b.json", "..a", "a..b/c", "1_Pooling/config.json", "中文.txt", ".gitattributes"]
)
def test_paths_that_are_taken(path: str) -> None:
    assert path in [file.path for file in parse_listing(listing(entry(path))).files]


@pytest.mark.parametrize(
    ("other", "code", "words"),
    [
        (entry("b.json", Sha256=None), "integrity", "no SHA-256"),
        (entry("b.json", Sha256=""), "integrity", "no SHA-256"),
        (entry("b.json", Sha256="z" * 64), "integrity", "no SHA-256"),
        (entry("b.json", Size=None), "integrity", "no usable size"),
        (entry("b.json", Size=-1), "integrity", "no usable size"),
        (entry("b.json", Size=True), "integrity", "no usable size"),
        (entry("MODEL.safetensors"), "unsafe_path", "by case only"),
        (entry("model.safetensors/x"), "unsafe_path", "is a file"),
        (entry("model.safetensors", Sha256=B), "unsafe_path", "listed twice"),
    ],
)
def test_listings_that_are_refused(other: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words) as err:
        parse_listing(listing(other))
    assert err.value.code == code and repr(other["Path"]) in str(err.value)


@pytest.mark.parametrize("data", [None, [], {}, {"Files": None}, {"Files": ["a"]}, {"Files": {}}, "x"])
def test_what_is_no_listing(data: Any) -> None:
    with pytest.raises(ManifestError, match="not a ModelScope file listing"):
        parse_listing(data)


def test_a_listing_that_may_be_cut_is_refused() -> None:
    with pytest.raises(ManifestError, match="may be cut"):
        parse_listing({"Files": [entry(f"{n}.safetensors") for n in range(LISTING_LIMIT)]})


def test_selection() -> None:
    data = listing(
        entry("onnx/model.onnx"),
        entry("onnx/config.json"),
        entry("pytorch_model.bin", Sha256=None),
        entry("code.py"),
        entry("README.md", Sha256=A.upper()),
        entry("sub", Type="tree", Sha256=""),
        LatestCommitter={"Id": "", "ShortId": "abc123"},
    )
    manifest = parse_listing(data, exclude=["onnx/"])
    assert [file.path for file in manifest.files] == ["README.md", "model.safetensors"]
    assert manifest.skipped == ("code.py", "pytorch_model.bin")
    assert {file.sha256 for file in manifest.files} == {A}
    assert (manifest.commit, manifest.size, manifest.weight_bytes) == ("abc123", 20, 10)
    assert "code.py" in [file.path for file in parse_listing(data, allow_remote_code=True).files]
    with pytest.raises(ManifestError, match=r"no such file in the selection \(left out: pytorch_model.bin\)") as err:
        parse_listing(data, include=["*.bin", "README*"])
    assert err.value.code == "unsafe_format"


@pytest.mark.parametrize(
    ("path", "include", "exclude", "wanted"),
    [
        ("a/b.json", ["*.json"], [], True),
        ("a/b.json", ["b.json"], [], False),
        ("a/b.json", [], ["a/"], False),
        ("a/b.json", ["*"], ["*.json"], False),
        ("A.json", ["a.json"], [], False),
        ("a.json", [], [], True),
    ],
)
def test_patterns(path: str, include: list[str], exclude: list[str], wanted: bool) -> None:
    assert selected(path, include, exclude) is wanted


@pytest.mark.parametrize(
    "suffix", ["bin", "pt", "pth", "ckpt", "pkl", "npy", "h5", "BIN", "onnx", "gguf", "zip", "so", "py"]
)
def test_formats_that_are_left_out(suffix: str) -> None:
    assert is_left_out(f"sub/model.{suffix}", allow_remote_code=False)


@pytest.mark.parametrize(
    "path", ["model.safetensors", "config.json", "vocab.txt", "tokenizer.model", "merges", "bin/a.json"]
)
def test_formats_that_are_taken(path: str) -> None:
    assert not is_left_out(path, allow_remote_code=False)


@pytest.mark.parametrize(
    ("index", "directory", "missing"),
    [
        ({"weight_map": {"w": "a.safetensors", "v": "b.safetensors"}}, "", ["b.safetensors"]),
        ({"weight_map": {"w": "a.safetensors"}}, "", []),
        ({"weight_map": {"w": "a.safetensors"}}, "sub", ["sub/a.safetensors"]),
        ({"weight_map": []}, "", []),
        (None, "", []),
    ],
)
def test_missing_shards(index: Any, directory: str, missing: list[str]) -> None:
    assert missing_shards(index, directory, ["a.safetensors"]) == missing


TENSORS = b'{"__metadata__": {"format": "pt"}, "w": {"dtype": "U8", "shape": [5], "data_offsets": [0, 5]}}'


def with_length(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    ("content", "good"),
    [
        (with_length(TENSORS) + b"12345", True),
        (with_length(b"{}"), True),
        (with_length(TENSORS) + b"1234", False),
        (with_length(TENSORS) + b"123456", False),
        (with_length(b"[]"), False),
        (with_length(b'{"w": 1}'), False),
        (with_length(b'{"w": {"data_offsets": []}}'), False),
        (with_length(b"{" * 100000), False),
        (with_length(b"{not json"), False),
        (b"PK\x03\x04" + bytes(200), False),
        (b"\x80\x02}q\x00X\x05\x00\x00\x00", False),
        ((2**40).to_bytes(8, "little") + b"{}", False),
        (b"\x02\0\0", False),
        (b"", False),
    ],
)
def test_safetensors(content: bytes, good: bool) -> None:
    length = safetensors_header_size(content[:8], len(content))
    assert (safetensors_problem(content[8 : 8 + length], len(content)) is None) is good
