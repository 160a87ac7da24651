#!/usr/bin/python
# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: model_download
short_description: Have a model on a host, complete and verified
version_added: 0.1.0
description:
  - Fetches a model from a ModelScope hub with the hub's own client, verifies every file by SHA-256 against the hub's
    listing and publishes it by a rename, so that a directory of the store is always complete.
  - A model that is there costs one stat per file and no network. An interrupted run is resumed, not begun anew.
  - Weights are taken as safetensors only; other weight formats, archives and Python code are left out and reported.
attributes:
  check_mode:
    support: full
    description: One listing is read from the hub; nothing is written and the client is not run.
  diff_mode:
    support: full
    description: Shows the files of the current and the wanted revision, with the first digits of their SHA-256.
author:
  - llmops.fleet contributors (@llmops)
options:
  name:
    description: The model's name in the store.
    type: str
    required: true
  source:
    description:
      - Where the model comes from. V(path) is a directory that is on the host already and is used in place.
      - V(huggingface) is not yet supported by this version.
    type: str
    choices: [modelscope, huggingface, path]
    default: modelscope
  repo:
    description: The repository on the hub, C(owner/name). Required unless O(source=path).
    type: str
  revision:
    description:
      - Branch, tag or commit. What a branch names when the model is fetched is recorded and kept.
    type: str
    default: master
  path:
    description: The directory of a model with O(source=path).
    type: path
  include:
    description: Patterns of the files to fetch (fnmatch on the whole path); all of them by default.
    type: list
    elements: str
    default: []
  exclude:
    description: Patterns of the files not to fetch.
    type: list
    elements: str
    default: []
  allow_remote_code:
    description: Fetch the repository's Python files too.
    type: bool
    default: false
  models_dir:
    description: The store, a directory on the host.
    type: path
    default: /data/models
  state:
    description:
      - V(present) fetches what is missing or damaged.
      - V(absent) removes the model's directories that carry this module's record, and no others.
      - V(verified) hashes every file again, changes nothing and fails naming the damaged ones.
    type: str
    choices: [present, absent, verified]
    default: present
  endpoint:
    description: URL of the ModelScope hub or of a mirror of it.
    type: str
    default: https://www.modelscope.cn
  token:
    description: Access token for the hub.
    type: str
  python:
    description: The interpreter that has C(modelscope_hub), as the role P(llmops.fleet.model_store#role) installs it.
    type: path
    default: /opt/llmops-fleet/venv/bin/python
  min_free:
    description: What must stay free on the disk, as in V(10G) or V(500M).
    type: str
    default: 10G
  ca_path:
    description: File of the CA certificates to trust; the system's own by default.
    type: path
  workers:
    description: How many files are fetched at the same time.
    type: int
    default: 4
  retries:
    description: How many times in a row a try may bring nothing new before it is given up.
    type: int
    default: 4
  retry_delay:
    description: Seconds before the next try; they double while nothing new comes.
    type: float
    default: 2.0
  timeout:
    description: Seconds that the hub may be silent when asked for the listing.
    type: float
    default: 60.0
  lock_timeout:
    description: Seconds to wait for another run that works on the same model.
    type: float
    default: 60.0
seealso:
  - name: ModelScope
    description: The hub.
    link: https://www.modelscope.cn
"""

EXAMPLES = r"""
- name: Have the embedding model
  llmops.fleet.model_download:
    name: gte-large-zh
    repo: iic/nlp_gte_sentence-embedding_chinese-large
    revision: v1.1.0
    models_dir: /data/models

- name: Hash every file of a model again
  llmops.fleet.model_download:
    name: gte-large-zh
    repo: iic/nlp_gte_sentence-embedding_chinese-large
    revision: v1.1.0
    state: verified

- name: Remove a model
  llmops.fleet.model_download:
    name: gte-large-zh
    state: absent
"""

RETURN = r"""
model:
  description: The state of the model on the host; in check mode C(path) and the sums are what they would be.
  returned: always
  type: dict
  contains:
    present: {description: Whether it is there as specified., type: bool}
    reason: {description: Why not., type: str}
    path: {description: The real directory that holds it., type: str}
    revision: {description: The revision asked for., type: str}
    commit: {description: The commit that the hub named with the listing., type: str}
    manifest_sha256: {description: 'SHA-256 of the sorted lines "sha256 size path".', type: str}
    bytes: {description: Size of all files., type: int}
    facts: {description: What config.json and the tokenizer say about it., type: dict}
files:
  description: The files of the wanted revision; empty when nothing was to be done.
  returned: always
  type: list
  elements: dict
  contains:
    path: {description: Path in the repository., type: str}
    size: {description: Bytes., type: int}
    sha256: {description: The listed hash., type: str}
    action:
      description: keep, check, staged, link or fetch; verified or remove with the other states.
      type: str
skipped:
  description: Files of the selection that are left out because of their format.
  returned: always
  type: list
  elements: str
bytes_needed:
  description: Bytes that were, or in check mode would be, fetched.
  returned: always
  type: int
bytes_downloaded:
  description: Bytes that were fetched.
  returned: always
  type: int
error_code:
  description:
    - Why it failed; not_found, auth, rate_limited, network, no_space, integrity, unsafe_path, unsafe_format, locked,
      timeout, client, unsupported, io or invalid.
  returned: failure
  type: str
"""

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.formatters import human_to_bytes
from ansible_collections.llmops.fleet.plugins.module_utils import _fs, _hub, _spec, _store
from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError
from ansible_collections.llmops.fleet.plugins.module_utils._fs import HostError
from ansible_collections.llmops.fleet.plugins.module_utils._manifest import (
    Manifest,
    ModelFile,
    diff_lines,
    parse_listing,
    parse_recorded,
)

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "source": {"type": "str", "choices": ["modelscope", "huggingface", "path"], "default": "modelscope"},
    "repo": {"type": "str"},
    "revision": {"type": "str", "default": "master"},
    "path": {"type": "path"},
    "include": {"type": "list", "elements": "str", "default": []},
    "exclude": {"type": "list", "elements": "str", "default": []},
    "allow_remote_code": {"type": "bool", "default": False},
    "models_dir": {"type": "path", "default": "/data/models"},
    "state": {"type": "str", "choices": ["present", "absent", "verified"], "default": "present"},
    "endpoint": {"type": "str", "default": "https://www.modelscope.cn"},
    "token": {"type": "str", "no_log": True},
    "python": {"type": "path", "default": "/opt/llmops-fleet/venv/bin/python"},
    "min_free": {"type": "str", "default": "10G"},
    "ca_path": {"type": "path"},
    "workers": {"type": "int", "default": 4},
    "retries": {"type": "int", "default": 4},
    "retry_delay": {"type": "float", "default": 2.0},
    "timeout": {"type": "float", "default": 60.0},
    "lock_timeout": {"type": "float", "default": 60.0},
}
# What trying again can't mend
FINAL = frozenset(("auth", "not_found", "integrity", "no_space", "unsafe_path"))

Result = dict[str, Any]


class ModelDownload:
    """One model in one store: what is there, what is wanted, and the way from one to the other."""

    def __init__(self, params: Mapping[str, Any], run: _hub.Runner, check_mode: bool) -> None:
        self.params, self.run, self.check_mode = params, run, check_mode
        self.models_dir: str = params["models_dir"]
        self.name: str = params["name"]
        self.source = _hub.Source(
            endpoint=params["endpoint"].rstrip("/"),
            repo=params["repo"] or "",
            revision=params["revision"],
            token=params["token"] or "",
            ca_path=params["ca_path"] or "",
            timeout=params["timeout"],
            retries=params["retries"],
            retry_delay=params["retry_delay"],
        )
        self.downloaded = 0
        self.manifest = Manifest(())

    @property
    def title(self) -> str:
        origin = {"path": f"path {self.params['path']}", "modelscope": str(self.source)}
        where = "" if self.params["state"] == "absent" else f" ({origin.get(self.params['source'], self.source.repo)})"
        return f'model "{self.name}"{where}'

    @property
    def staged(self) -> str:
        return os.path.join(_store.staging_dir(self.models_dir, self.name), self.manifest.sha256[:16], "files")

    @property
    def published(self) -> str:
        return _store.revision_dir(self.models_dir, self.name, self.manifest.sha256)

    def validate(self) -> None:
        try:
            human_to_bytes(self.params["min_free"])
        except ValueError:
            raise HostError("invalid", f"min_free: {self.params['min_free']!r} is no size like 10G") from None
        if not _spec.MODEL_NAME.fullmatch(self.name):
            raise HostError("invalid", "name: use letters, digits, '.', '_' and '-' only, a letter or digit first")
        if self.params["state"] == "absent" or self.params["source"] == "path":
            return
        if self.params["source"] == "huggingface":
            raise HostError("unsupported", "source huggingface is not yet supported by this version; use modelscope")
        if not _spec.REPO.fullmatch(self.source.repo):
            raise HostError("invalid", f"repo: {self.source.repo!r} is not of the form owner/name")
        if not _spec.REVISION.fullmatch(self.source.revision):
            raise HostError("invalid", f"revision: {self.source.revision!r} is no branch, tag or commit")
        if not re.match(r"https?://[^/]+", self.source.endpoint):
            raise HostError("invalid", f"endpoint: {self.source.endpoint!r} is not an http or https URL")

    def failure(self, err: Exception) -> dict[str, Any]:
        code, problem = getattr(err, "code", "invalid"), str(err)
        if isinstance(err, OSError):
            code = "no_space" if err.errno == errno.ENOSPC else "io"
            problem = f"{err.filename or self.models_dir}: {err.strerror}"
        return {"msg": f"{self.title}: {problem}", "error_code": code}

    def status(self) -> dict[str, Any]:
        return _store.model_status(self.models_dir, self.params)

    def result(self, changed: bool, model: Mapping[str, Any], actions: Mapping[str, str] | None = None) -> Result:
        files = [
            {"path": file.path, "size": file.size, "sha256": file.sha256, "action": (actions or {})[file.path]}
            for file in self.manifest.files
        ]
        return {
            "changed": changed,
            "model": dict(model),
            "files": files,
            "skipped": list(self.manifest.skipped),
            "bytes_needed": 0,
            "bytes_downloaded": self.downloaded,
        }

    # state: present

    def present(self) -> Result:
        status = self.status()
        if status["present"]:
            return self.result(False, status)
        if self.params["source"] == "path":
            raise HostError("not_found", f"{status['reason']}; put the model there or correct its path")
        self.manifest = parse_listing(
            _hub.list_files(self.source),
            self.params["include"],
            self.params["exclude"],
            self.params["allow_remote_code"],
        )
        before = _store.recorded_files(self.models_dir, self.name)
        actions, needed = self.plan()
        self.check_space(needed)
        if self.check_mode:
            result = self.result(True, self.expected(status), actions)
        else:
            with _fs.locked(_store.lock_path(self.models_dir, self.name), self.params["lock_timeout"]):
                if self.status()["present"]:  # another run was faster
                    self.manifest = Manifest(())
                    return self.result(False, self.status())
                actions, needed = self.apply(actions)
            model = self.status()
            if not model["present"]:
                raise HostError("io", f"published, but not there as verified: {model['reason']}")
            result = self.result(True, model, actions)
        return {**result, "bytes_needed": needed, "diff": self.diff(before, self.manifest.files)}

    def plan(self) -> tuple[dict[str, str], int]:
        """What to do with each file and the bytes to fetch, by stats only."""
        actions = _store.plan_files(
            self.manifest,
            self.published,
            self.staged,
            _store.linkable_files(self.models_dir, self.name),
            _store.read_sidecar(self.published),
        )
        return actions, _store.bytes_needed(self.manifest.files, actions, self.staged)

    def expected(self, status: Mapping[str, Any]) -> dict[str, Any]:
        """What the model's state would be; its content, and so most facts, is not known before it is fetched."""
        facts = {"weight_bytes": self.manifest.weight_bytes, "files": len(self.manifest.files)}
        return {
            **status,
            "path": self.published,
            "revision": self.source.revision,
            "commit": self.manifest.commit or None,
            "manifest_sha256": self.manifest.sha256,
            "bytes": self.manifest.size,
            "facts": facts,
        }

    def check_space(self, needed: int) -> None:
        keep = human_to_bytes(self.params["min_free"])
        free, total = _fs.disk_space(self.models_dir)
        if needed and needed + keep > free:
            raise HostError(
                "no_space",
                f"no disk space: {_fs.gib(needed)} to fetch and {_fs.gib(keep)} to keep free, but {self.models_dir} "
                f"has {_fs.gib(free)} free of {_fs.gib(total)}; free some, or use another fleet_models_dir",
            )

    def apply(self, actions: dict[str, str]) -> tuple[dict[str, str], int]:
        self.drop_other_staging()
        self.rehash(actions)
        needed = _store.bytes_needed(self.manifest.files, actions, self.staged)
        self.check_space(needed)
        os.makedirs(self.staged, mode=0o755, exist_ok=True)
        self.link(actions)
        self.fetch([file for file in self.manifest.files if actions[file.path] == "fetch"])
        todo = [file for file in self.manifest.files if actions[file.path] in ("fetch", "link", "staged")]
        self.verify(todo)
        wanted = {file.path for file in todo}
        for path in _store.walk_files(self.staged):
            if path not in wanted:
                os.unlink(os.path.join(self.staged, path))
        _store.check_content(self.staged, self.manifest)
        _store.publish(self.models_dir, self.params, self.source.endpoint, self.manifest, self.staged)
        shutil.rmtree(_store.staging_dir(self.models_dir, self.name), ignore_errors=True)
        return actions, needed

    def drop_other_staging(self) -> None:
        """What was staged for other revisions of this model is of no use any more."""
        base = _store.staging_dir(self.models_dir, self.name)
        for name in os.listdir(base) if os.path.isdir(base) else []:
            if name != self.manifest.sha256[:16]:
                shutil.rmtree(os.path.join(base, name), ignore_errors=True)

    def rehash(self, actions: dict[str, str]) -> None:
        """Files in place that don't look as recorded: keep those that have the right bytes, fetch the others."""
        suspects = {p: os.path.join(self.published, p) for p, action in actions.items() if action == "check"}
        hashes = _fs.sha256_files(suspects)
        for file in self.manifest.files:
            if file.path in suspects:
                actions[file.path] = "keep" if hashes[file.path] == file.sha256 else "fetch"

    def link(self, actions: dict[str, str]) -> None:
        """Files that another revision has become hard links; where that can't be, they are fetched."""
        linkable = _store.linkable_files(self.models_dir, self.name)
        for file in self.manifest.files:
            if actions[file.path] != "link":
                continue
            target = os.path.join(self.staged, file.path)
            os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(target)
            try:
                os.link(linkable[file.sha256], target)
            except (OSError, KeyError):
                actions[file.path] = "fetch"

    def fetch(self, files: Sequence[ModelFile]) -> None:
        """Run the hub's client until all is there, as long as each run brings something new."""
        missing, idle, most = list(files), 0, _hub.bytes_below(self.staged)
        private = os.path.join(os.path.dirname(self.staged), "client")
        python, workers = self.params["python"], self.params["workers"]
        while missing:
            outcome = _hub.run_client(self.source, missing, self.staged, private, python, workers, self.run)
            there = _hub.bytes_below(self.staged)
            missing = [file for file in missing if file.path in outcome.failed or not self.is_staged(file)]
            if not missing:
                self.downloaded += max(0, there - most)
                return
            idle = 0 if there > most else idle + 1
            self.downloaded, most = self.downloaded + max(0, there - most), max(there, most)
            self.give_up_on(missing, outcome, idle > self.source.retries)
            time.sleep(min(60.0, self.source.retry_delay * 2**idle))

    def is_staged(self, file: ModelFile) -> bool:
        path = os.path.join(self.staged, file.path)
        return os.path.isfile(path) and os.path.getsize(path) == file.size

    @staticmethod
    def give_up_on(missing: Sequence[ModelFile], outcome: _hub.ClientResult, exhausted: bool) -> None:
        failed = [(file, *outcome.failed.get(file.path, outcome.error or ("network", ""))) for file in missing]
        failed.sort(key=lambda item: item[1] not in FINAL)
        file, code, reason = failed[0]
        if code not in FINAL and not exhausted:
            return
        if code == "integrity":
            got = _hub.got_hash(reason)
            reason = f"expected sha256 {file.sha256}, got {got}..." if got else reason
        more = f" (and {len(failed) - 1} more files)" if len(failed) > 1 else ""
        raise HostError(code, f"{file.path}{more}: {reason or _hub.REASONS['network']}")

    def verify(self, files: Sequence[ModelFile]) -> None:
        """Our own hash of every staged file. A bad one is fetched once more."""
        for last in (False, True):
            paths = {file.path: os.path.join(self.staged, file.path) for file in files}
            hashes = _fs.sha256_files(paths, sync=True)
            files = [file for file in files if hashes[file.path] != file.sha256]
            if not files:
                return
            for file in files:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(paths[file.path])
            if last:
                raise HostError("integrity", "; ".join(_store.damaged(hashes, files)))
            self.fetch(files)

    @staticmethod
    def diff(before: Sequence[ModelFile], after: Sequence[ModelFile]) -> dict[str, str]:
        def text(files: Sequence[ModelFile]) -> str:
            return "".join(f"{line}\n" for line in diff_lines(files))

        return {"before": text(before), "after": text(after)}

    # state: verified

    def verified(self) -> Result:
        status = self.status()
        directory = _store.current_dir(self.models_dir, self.name)
        record = _store.read_sidecar(directory) if directory else None
        if self.params["source"] == "path":
            if not status["present"]:
                raise HostError("not_found", str(status["reason"]))
            return self.result(False, status)
        if directory is None or record is None:
            raise HostError("not_found", f"{status['reason']}; fetch it first")
        self.manifest = Manifest(parse_recorded(record["files"]))
        hashes = _fs.sha256_files({file.path: os.path.join(directory, file.path) for file in self.manifest.files})
        bad = _store.damaged(hashes, self.manifest.files)
        if bad:
            raise HostError("integrity", f"{len(bad)} damaged: {'; '.join(bad)}; run with state present to repair it")
        return self.result(False, status, dict.fromkeys(hashes, "verified"))

    # state: absent

    def absent(self) -> Result:
        if self.params["source"] == "path" or not _store.removable(self.models_dir, self.name):
            return self.result(False, self.status())
        before = _store.recorded_files(self.models_dir, self.name)
        left: list[str] = []
        if not self.check_mode:
            with _fs.locked(_store.lock_path(self.models_dir, self.name), self.params["lock_timeout"]):
                left = _store.remove(self.models_dir, self.name)
        self.manifest = Manifest(before)
        result = self.result(True, self.status(), dict.fromkeys((file.path for file in before), "remove"))
        return {**result, "diff": self.diff(before, ()), "left": left}


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        required_if=[("source", "path", ("path",))],
        supports_check_mode=True,
    )

    def run(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str, str]:
        rc, out, err = module.run_command(list(arguments), environ_update=dict(environment))
        return int(rc), str(out), str(err)

    download = ModelDownload(module.params, run, module.check_mode)
    if download.source.token and download.source.endpoint.startswith("http://"):
        module.warn(f"the hub's token is sent in clear text to {download.source.endpoint}; use https")
    try:
        download.validate()
        states = {"present": download.present, "verified": download.verified, "absent": download.absent}
        result = states[module.params["state"]]()
    except (HostError, SpecError, OSError) as err:
        module.fail_json(**download.failure(err))
    for name in result.pop("left", []):
        module.warn(f"{download.title}: left {name}, which carries no record of llmops.fleet")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
