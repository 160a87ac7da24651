# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model consists of: the hub's listing checked, selected and hashed. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError

SIDECAR = ".model.json"
# The hub cuts a listing here without a word
LISTING_LIMIT = 3000
# Weights in formats other than safetensors (most of them unpickle code), archives and programs
LEFT_OUT = re.compile(
    r"""\.(bin|pt|pth|ckpt|pkl|pickle|dill|joblib|npy|npz|h5|hdf5|keras|pb|tflite|onnx|mlmodel|msgpack|ot|nemo|gguf|ggml
        |ggjt|llamafile|engine|plan|mar|zip|tar|gz|tgz|bz2|xz|zst|7z|rar|whl|exe|dll|so|dylib|sh)$""",
    re.IGNORECASE | re.VERBOSE,
)
CODE = re.compile(r"\.(py|pyc|pyd)$", re.IGNORECASE)
# What the format itself allows
SAFETENSORS_HEADER = 100_000_000
SHA256 = re.compile(r"[0-9a-f]{64}")


class ManifestError(SpecError):
    """A listing that is refused; ``code`` says why in a word."""

    def __init__(self, code: str, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.code = code


@dataclass(frozen=True)
class ModelFile:
    path: str
    size: int
    sha256: str

    @property
    def line(self) -> str:
        return f"{self.sha256} {self.size} {self.path}"


@dataclass(frozen=True)
class Manifest:
    """The files that make up one revision of a model, in order of their paths."""

    files: tuple[ModelFile, ...]
    skipped: tuple[str, ...] = ()
    commit: str = ""

    @property
    def sha256(self) -> str:
        return manifest_sha256(self.files)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def weight_bytes(self) -> int:
        return sum(file.size for file in self.files if is_weights(file.path))


def manifest_sha256(files: Iterable[ModelFile]) -> str:
    """The identity of a set of files, whatever their order."""
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(file.line for file in files)).encode()).hexdigest()


def diff_lines(files: Iterable[ModelFile]) -> list[str]:
    return [f"{file.sha256[:12]} {file.size} {file.path}" for file in sorted(files, key=lambda file: file.path)]


def is_weights(path: str) -> bool:
    return path.lower().endswith(".safetensors")


def is_left_out(path: str, allow_remote_code: bool) -> bool:
    """Whether a file is never fetched: weights that are not safetensors, and Python code unless it is allowed."""
    return bool(LEFT_OUT.search(path) or (CODE.search(path) and not allow_remote_code))


def check_path(path: Any) -> str:
    """A path that stays inside its directory and means one file on any host."""
    if not isinstance(path, str) or not path:
        raise ManifestError("unsafe_path", repr(path), "is not a file's path")
    try:
        parts = [part.encode() for part in path.split("/")]
    except UnicodeEncodeError:
        raise ManifestError("unsafe_path", repr(path), "unsafe path: it is not valid Unicode") from None
    if path.startswith("/") or b".." in parts or b"." in parts or b"" in parts:
        raise ManifestError("unsafe_path", repr(path), "unsafe path: it leads out of the model's directory")
    if "\\" in path or any(ord(char) < 32 or ord(char) == 127 for char in path):
        raise ManifestError("unsafe_path", repr(path), "unsafe path: it holds a backslash or a control character")
    if any(len(part) > 255 for part in parts) or len(path.encode()) > 1024:
        raise ManifestError("unsafe_path", repr(path), "unsafe path: a component is longer than 255 bytes, or all 1024")
    if parts[0] == SIDECAR.encode():
        raise ManifestError("unsafe_path", repr(path), "is the name of llmops.fleet's own record of a model")
    return path


def selected(path: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """fnmatch on the whole path, as the hubs' clients do it: ``*`` crosses ``/``, ``dir/`` means ``dir/*``."""

    def matches(patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(path, f"{pattern}*" if pattern.endswith("/") else pattern) for pattern in patterns)

    return (not include or matches(include)) and not matches(exclude)


def parse_file(entry: Mapping[str, Any]) -> ModelFile:
    path, size, sha256 = str(entry["Path"]), entry.get("Size"), entry.get("Sha256")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ManifestError("integrity", repr(path), f"the hub gives no usable size for it (got {size!r})")
    if not isinstance(sha256, str) or not SHA256.fullmatch(sha256.lower()):
        raise ManifestError("integrity", repr(path), f"the hub gives no SHA-256 to verify it with (got {sha256!r})")
    return ModelFile(path, size, sha256.lower())


def check_collisions(files: Sequence[ModelFile]) -> None:
    """No two paths may be one on a file system that ignores case, and no file may be another one's directory."""
    seen: dict[str, str] = {}
    for file in files:
        other = seen.setdefault(file.path.casefold(), file.path)
        if other != file.path:
            raise ManifestError("unsafe_path", repr(file.path), f"unsafe path: differs from {other!r} by case only")
    for file in files:
        parts = file.path.casefold().split("/")
        for end in range(1, len(parts)):
            parent = seen.get("/".join(parts[:end]))
            if parent is not None:
                raise ManifestError("unsafe_path", repr(file.path), f"unsafe path: {parent!r} is a file")


def parse_listing(
    data: Any, include: Sequence[str] = (), exclude: Sequence[str] = (), allow_remote_code: bool = False
) -> Manifest:
    """The ``Data`` of the hub's answer to a listing, checked; ManifestError on anything that can't be trusted."""
    entries = data.get("Files") if isinstance(data, Mapping) else None
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ManifestError("network", "listing", "the answer is not a ModelScope file listing; check the endpoint")
    if len(entries) >= LISTING_LIMIT:
        raise ManifestError(
            "unsafe_format",
            "listing",
            f"{len(entries)} entries: the hub cuts listings at {LISTING_LIMIT}, so it may be cut",
        )
    blobs = [entry for entry in entries if entry.get("Type") != "tree"]
    for entry in blobs:
        check_path(entry.get("Path"))
    wanted = [entry for entry in blobs if selected(str(entry["Path"]), include, exclude)]
    skipped = sorted({str(entry["Path"]) for entry in wanted if is_left_out(str(entry["Path"]), allow_remote_code)})
    files: dict[str, ModelFile] = {}
    for entry in wanted:
        if is_left_out(str(entry["Path"]), allow_remote_code):
            continue
        file = parse_file(entry)
        if files.setdefault(file.path, file) != file:
            raise ManifestError("unsafe_path", repr(file.path), "is listed twice, with different content")
    ordered = tuple(files[path] for path in sorted(files))
    check_collisions(ordered)
    if not any(is_weights(file.path) for file in ordered):
        what = f"left out: {', '.join(skipped)}" if skipped else f"{len(blobs)} files listed, {len(ordered)} selected"
        raise ManifestError(
            "unsafe_format", "*.safetensors", f"no such file in the selection ({what}); weights must be safetensors"
        )
    return Manifest(ordered, tuple(skipped), commit_of(data))


def commit_of(data: Mapping[str, Any]) -> str:
    committer = data.get("LatestCommitter")
    if not isinstance(committer, Mapping):
        return ""
    return str(committer.get("Id") or committer.get("ShortId") or "")


def parse_recorded(files: Any) -> tuple[ModelFile, ...]:
    """The files of a sidecar: {path: {size, sha256, ...}}. Its paths are checked too: it is a file on a disk."""
    if not isinstance(files, Mapping):
        raise ManifestError("integrity", "files", "is not a mapping")
    recorded = [parse_file({"Path": check_path(path), "Size": f.get("size"), "Sha256": f.get("sha256")})
                for path, f in files.items()]  # fmt: skip
    return tuple(sorted(recorded, key=lambda file: file.path))


def missing_shards(index: Any, directory: str, paths: Iterable[str]) -> list[str]:
    """Shards that a ``*.safetensors.index.json`` names and that are not among ``paths``."""
    weight_map = index.get("weight_map") if isinstance(index, Mapping) else None
    if not isinstance(weight_map, Mapping):
        return []
    prefix = f"{directory}/" if directory else ""
    return sorted({f"{prefix}{shard}" for shard in weight_map.values()} - set(paths))


def safetensors_header_size(head: bytes, size: int) -> int:
    """Length of the header that the first 8 bytes of a file of ``size`` bytes announce; 0 if it can't be one."""
    length = int.from_bytes(head, "little")
    return length if len(head) == 8 and 2 <= length <= min(SAFETENSORS_HEADER, size - 8) else 0


def safetensors_problem(header: bytes, size: int) -> str | None:
    """What is wrong with the header of a safetensors file of ``size`` bytes: it must account for each of them."""
    try:
        tensors = json.loads(header) if header[:1] == b"{" else None
        ends = [int(t["data_offsets"][1]) for name, t in tensors.items() if name != "__metadata__"] if tensors else []
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return "is not safetensors: its header can't be read"
    if tensors is None:
        return "is not safetensors: it has no such header"
    accounted = 8 + len(header) + max(ends, default=0)
    if accounted != size:
        return f"is not sound safetensors: its header accounts for {accounted} of {size} bytes"
    return None
