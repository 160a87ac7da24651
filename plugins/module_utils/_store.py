# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store of models on a host.

    <models_dir>/<name>/<first 16 digits of manifest_sha256>/   the files of one revision and .model.json, the sidecar
    <models_dir>/<name>/current                                 relative link to the revision that is served
    <models_dir>/.staging/<name>/<16 digits>/{files,client}     what is being fetched, and the client's own state
    <models_dir>/.lock/<name>                                   held while a model changes

A directory appears under its name only complete and verified. The sidecar records size, mtime and SHA-256 of each file
and what the planner needs to know, so that "nothing to do" is one small JSON and a stat per file.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError
from ansible_collections.llmops.fleet.plugins.module_utils._fs import (
    HostError,
    atomic_write_json,
    fsync_dir,
    prune_empty_dirs,
    replace_link,
)
from ansible_collections.llmops.fleet.plugins.module_utils._manifest import (
    SIDECAR,
    Manifest,
    ModelFile,
    is_weights,
    missing_shards,
    parse_recorded,
    safetensors_header_size,
    safetensors_problem,
)

SCHEMA = 1
MARKER = "llmops.fleet"
SMALL = 64 * 1024 * 1024
CONFIG_FACTS = ("architectures", "model_type", "max_position_embeddings", "torch_dtype", "hidden_size")


def identity(model: Mapping[str, Any]) -> dict[str, Any]:
    """What of a model's specification decides which files it consists of."""
    return {
        "source": model.get("source") or "modelscope",
        "repo": model.get("repo"),
        "revision": model.get("revision") or "master",
        "include": sorted(model.get("include") or []),
        "exclude": sorted(model.get("exclude") or []),
        "allow_remote_code": bool(model.get("allow_remote_code")),
    }


def _status(**known: Any) -> dict[str, Any]:
    unknown: dict[str, Any] = dict.fromkeys(("reason", "path", "revision", "commit", "manifest_sha256"))
    return {"present": False, **unknown, "bytes": 0, "facts": {}, **known}


def model_status(models_dir: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a model is there as specified, and the facts about it. Never raises, never writes, never hashes."""
    try:
        if model.get("source") == "path":
            return _path_status(str(model["path"]), model)
        return _stored_status(models_dir, model)
    except (OSError, SpecError, ValueError, KeyError, TypeError, AttributeError) as err:
        return _status(reason=f"can't be read: {err}")


def _path_status(path: str, model: Mapping[str, Any]) -> dict[str, Any]:
    if not os.path.isdir(path):
        return _status(reason=f"{path} is not a directory")
    sizes = {name: os.stat(os.path.join(path, name)).st_size for name in walk_files(path)}
    if "config.json" not in sizes or not any(is_weights(name) for name in sizes):
        return _status(reason=f"{path} has no config.json or no *.safetensors file")
    facts = read_facts(path, sizes)
    size = sum(sizes.values())
    return _status(present=True, path=os.path.realpath(path), revision=model.get("revision"), bytes=size, facts=facts)


def _stored_status(models_dir: str, model: Mapping[str, Any]) -> dict[str, Any]:
    directory = current_dir(models_dir, str(model["name"]))
    if directory is None:
        return _status(reason="is not in the store")
    record = read_sidecar(directory)
    if record is None:
        return _status(reason=f"{directory} has no record of llmops.fleet ({SIDECAR})")
    for key, wanted in identity(model).items():
        if record.get(key) != wanted:
            return _status(reason=f"{key} is {record.get(key)!r}, wanted {wanted!r}")
    problem = changed_file(directory, record["files"])
    if problem:
        return _status(reason=problem)
    known = {key: record[key] for key in ("revision", "commit", "manifest_sha256", "bytes", "facts")}
    return _status(present=True, path=directory, **known)


def changed_file(directory: str, files: Mapping[str, Any]) -> str | None:
    """The first file whose size or mtime is not as recorded."""
    for path, known in files.items():
        try:
            found = os.lstat(os.path.join(directory, path))
        except OSError as err:
            return f"{path}: {err.strerror}"
        if not stat.S_ISREG(found.st_mode):
            return f"{path}: is not a regular file"
        if (found.st_size, found.st_mtime_ns) != (known["size"], known["mtime_ns"]):
            return f"{path}: changed since it was verified"
    return None


def model_dir(models_dir: str, name: str) -> str:
    return os.path.join(os.path.abspath(models_dir), name)


def revision_dir(models_dir: str, name: str, manifest: str) -> str:
    return os.path.join(model_dir(models_dir, name), manifest[:16])


def staging_dir(models_dir: str, name: str) -> str:
    return os.path.join(os.path.abspath(models_dir), ".staging", name)


def lock_path(models_dir: str, name: str) -> str:
    return os.path.join(os.path.abspath(models_dir), ".lock", name)


def current_dir(models_dir: str, name: str) -> str | None:
    """The real directory that ``current`` leads to, if it is one of this model's own."""
    link = os.path.join(model_dir(models_dir, name), "current")
    real = os.path.realpath(link)
    if not os.path.isdir(real) or os.path.dirname(real) != os.path.realpath(model_dir(models_dir, name)):
        return None
    return real


def revision_dirs(models_dir: str, name: str) -> Iterator[str]:
    """Directories of this model that carry our sidecar."""
    with contextlib.suppress(OSError):
        for entry in sorted(os.scandir(model_dir(models_dir, name)), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False) and os.path.isfile(os.path.join(entry.path, SIDECAR)):
                yield entry.path


def read_sidecar(directory: str) -> dict[str, Any] | None:
    try:
        with open(os.path.join(directory, SIDECAR), "rb") as stream:
            record = json.load(stream)
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("managed_by") != MARKER or record.get("schema") != SCHEMA:
        return None
    return record if isinstance(record.get("files"), dict) else None


def recorded_files(models_dir: str, name: str) -> tuple[ModelFile, ...]:
    """What ``current`` holds by its sidecar; nothing if there is none to read."""
    directory = current_dir(models_dir, name)
    record = read_sidecar(directory) if directory else None
    try:
        return parse_recorded(record["files"]) if record else ()
    except SpecError:
        return ()


def linkable_files(models_dir: str, name: str) -> dict[str, str]:
    """{sha256: path} of unchanged files in this model's revisions: they need no second download."""
    found: dict[str, str] = {}
    for directory in revision_dirs(models_dir, name):
        record = read_sidecar(directory)
        for path, known in (record["files"] if record else {}).items():
            with contextlib.suppress(SpecError, KeyError, TypeError):
                parse_recorded({path: known})
                if changed_file(directory, {path: known}) is None:
                    found.setdefault(known["sha256"], os.path.join(directory, path))
    return found


def walk_files(directory: str) -> list[str]:
    """Relative paths of the files below a directory."""
    found = []
    for root, _dirs, names in os.walk(directory):
        found += [os.path.relpath(os.path.join(root, name), directory) for name in names]
    return sorted(found)


def _read_json(path: str) -> Any:
    try:
        if os.path.getsize(path) > SMALL:
            return None
        with open(path, "rb") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def read_template(directory: str) -> str:
    """The chat template, wherever the model keeps it; several named ones are joined."""
    with (
        contextlib.suppress(OSError, UnicodeDecodeError),
        open(os.path.join(directory, "chat_template.jinja"), encoding="utf-8") as stream,
    ):
        return stream.read(SMALL)
    for name in ("chat_template.json", "tokenizer_config.json"):
        value = _read_json(os.path.join(directory, name))
        template = value.get("chat_template") if isinstance(value, Mapping) else None
        if isinstance(template, str):
            return template
        if isinstance(template, list):
            return "\n".join(str(item.get("template", "")) for item in template if isinstance(item, Mapping))
    return ""


def read_facts(directory: str, sizes: Mapping[str, int]) -> dict[str, Any]:
    """What the planner needs to know about a model, from its own files."""
    config = _read_json(os.path.join(directory, "config.json"))
    config = config if isinstance(config, Mapping) else {}
    nested = config.get("text_config")
    nested = nested if isinstance(nested, Mapping) else {}
    facts: dict[str, Any] = {key: config.get(key, nested.get(key)) for key in CONFIG_FACTS}
    facts["architectures"] = facts["architectures"] or []
    facts["torch_dtype"] = facts["torch_dtype"] or config.get("dtype") or nested.get("dtype")
    template = read_template(directory)
    return {
        **facts,
        "chat_template": bool(template),
        "tool_template": "tools" in template,
        "tool_call_tag": "<tool_call>" in template,
        "weight_bytes": sum(size for path, size in sizes.items() if is_weights(path)),
        "files": len(sizes),
    }


def check_content(directory: str, manifest: Manifest) -> None:
    """What hashes can't tell: weights are safetensors whatever the hub calls them, and no shard is missing."""
    paths = [file.path for file in manifest.files]
    for file in manifest.files:
        full = os.path.join(directory, file.path)
        if not os.path.exists(full):  # a repair stages only what was damaged
            continue
        if is_weights(file.path):
            with open(full, "rb") as stream:
                length = safetensors_header_size(stream.read(8), file.size)
                problem = safetensors_problem(stream.read(length), file.size)
            if problem:
                raise HostError("unsafe_format", f"{file.path} {problem}; refusing to serve it")
        elif file.path.endswith(".safetensors.index.json"):
            missing = missing_shards(_read_json(full), os.path.dirname(file.path), paths)
            if missing:
                raise HostError(
                    "integrity",
                    f"{file.path} names {missing[0]}, which is not in the selection; check include and exclude",
                )


def settle_modes(directory: str) -> None:
    """Files 0644, directories 0755, whatever the umask was: containers run as other users."""
    for root, _dirs, names in os.walk(directory):
        os.chmod(root, 0o755)
        for name in names:
            os.chmod(os.path.join(root, name), 0o644)


def sidecar_of(directory: str, model: Mapping[str, Any], endpoint: str, manifest: Manifest) -> dict[str, Any]:
    files = {}
    for file in manifest.files:
        found = os.lstat(os.path.join(directory, file.path))
        files[file.path] = {
            "size": found.st_size,
            "mtime_ns": found.st_mtime_ns,
            "sha256": file.sha256,
            "checked_at": int(time.time()),
        }
    sizes = {file.path: file.size for file in manifest.files}
    return {
        "managed_by": MARKER,
        "schema": SCHEMA,
        "name": model["name"],
        "endpoint": endpoint,
        **identity(model),
        "commit": manifest.commit or None,
        "manifest_sha256": manifest.sha256,
        "bytes": manifest.size,
        "facts": read_facts(directory, sizes),
        "files": files,
    }


def publish(models_dir: str, model: Mapping[str, Any], endpoint: str, manifest: Manifest, staged: str) -> str:
    """Put verified files under their final name and point ``current`` at them.

    A new revision appears by one rename. One that is there and was damaged is repaired file by file, each by a rename
    over the bad one, so that a container that has the directory mounted keeps it.
    """
    name = str(model["name"])
    final = revision_dir(models_dir, name, manifest.sha256)
    os.makedirs(os.path.dirname(final), mode=0o755, exist_ok=True)
    settle_modes(staged)
    if os.path.isdir(final):
        for path in walk_files(staged):
            target = os.path.join(final, path)
            os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
            os.replace(os.path.join(staged, path), target)
        atomic_write_json(os.path.join(final, SIDECAR), sidecar_of(final, model, endpoint, manifest))
    else:
        atomic_write_json(os.path.join(staged, SIDECAR), sidecar_of(staged, model, endpoint, manifest))
        os.rename(staged, final)
    fsync_dir(os.path.dirname(final))
    replace_link(os.path.basename(final), os.path.join(os.path.dirname(final), "current"))
    return final


def remove(models_dir: str, name: str) -> list[str]:
    """Remove what is ours of a model; returns the directories left because they carry no sidecar of ours."""
    base, trash = model_dir(models_dir, name), staging_dir(models_dir, name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(base, "current"))
    for directory in list(revision_dirs(models_dir, name)):
        if read_sidecar(directory) is not None:
            os.makedirs(trash, mode=0o755, exist_ok=True)
            gone = os.path.join(trash, f"removed-{os.path.basename(directory)}")
            shutil.rmtree(gone, ignore_errors=True)
            os.rename(directory, gone)
    if os.path.isdir(trash):
        shutil.rmtree(trash)
    prune_empty_dirs([base])
    return sorted(os.listdir(base)) if os.path.isdir(base) else []


def removable(models_dir: str, name: str) -> list[str]:
    """What ``remove`` would remove."""
    found = [path for path in revision_dirs(models_dir, name) if read_sidecar(path) is not None]
    link = os.path.join(model_dir(models_dir, name), "current")
    return found + [path for path in (link, staging_dir(models_dir, name)) if os.path.lexists(path)]


def plan_files(
    manifest: Manifest, published: str, staged: str, linkable: Mapping[str, str], record: Mapping[str, Any] | None
) -> dict[str, str]:
    """What happens to each file, by stats only: keep | check | staged | link | fetch."""
    known = record["files"] if record else {}
    actions = {}
    for file in manifest.files:
        there, wanted = _size(os.path.join(published, file.path)), file.size
        if there == wanted and file.path in known and changed_file(published, {file.path: known[file.path]}) is None:
            actions[file.path] = "keep"
        elif there == wanted:
            actions[file.path] = "check"
        elif _size(os.path.join(staged, file.path)) == wanted:
            actions[file.path] = "staged"
        else:
            actions[file.path] = "link" if file.sha256 in linkable else "fetch"
    return actions


def bytes_needed(files: Sequence[ModelFile], actions: Mapping[str, str], staged: str) -> int:
    """Bytes still to be fetched: of the files to fetch, less what an earlier run left of them."""
    return sum(
        file.size - min(file.size, max(0, _size(os.path.join(staged, f"{file.path}.incomplete"))))
        for file in files
        if actions[file.path] == "fetch"
    )


def _size(path: str) -> int:
    """Size of a regular file, -1 if there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def damaged(hashes: Mapping[str, str], files: Sequence[ModelFile]) -> list[str]:
    """One line per file whose hash is not the recorded one."""
    return [
        f"{file.path}: expected sha256 {file.sha256}, got {hashes.get(file.path, 'nothing')}"
        for file in files
        if hashes.get(file.path) != file.sha256
    ]
