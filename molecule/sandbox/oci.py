#!/usr/bin/env python3
# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OCI images without a container engine: folders to layers, layers to images, images into a registry over its HTTP API.

A store is a folder with blobs/sha256/<digest>. A layer is a deterministic tar (sorted, root's, one mtime) compressed by
zstd, so that 3 GB take half a minute where `docker import` and `docker push` (gzip on one core) take several.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

MTIME = 1767225600  # 2026-01-01: every file in a layer has it
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CHUNK = 1 << 20


class OciError(Exception):
    """A registry or a tool said no."""


@dataclass(frozen=True)
class Layer:
    digest: str
    size: int
    diff_id: str

    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": LAYER, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class ImageConfig:
    entrypoint: Sequence[str]
    env: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


class Store:
    """Blobs by digest in a folder."""

    def __init__(self, directory: Path) -> None:
        self.blobs = directory / "blobs" / "sha256"
        self.blobs.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        return self.blobs / digest.removeprefix("sha256:")

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def add(self, data: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            temporary = self.path(f"{digest}.{os.getpid()}.tmp")
            temporary.write_bytes(data)
            temporary.replace(self.path(digest))
        return digest

    def add_layer(self, tree: Path, excludes: Sequence[str] = ()) -> Layer:
        """Everything below `tree` as a layer."""
        tar_command = [
            *("tar", "--create", "--directory", str(tree), "--sort=name", "--format=posix", "--numeric-owner"),
            *(f"--mtime=@{MTIME}", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"),
            *(f"--exclude={pattern}" for pattern in excludes),
            ".",
        ]
        handle, name = tempfile.mkstemp(dir=self.blobs, suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        try:
            with (
                subprocess.Popen(tar_command, stdout=subprocess.PIPE) as tar,
                subprocess.Popen(["zstd", "-T0", "-3", "-q"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as zstd,
            ):
                assert tar.stdout and zstd.stdin and zstd.stdout
                packed, size = hashlib.sha256(), 0

                def drain() -> None:
                    nonlocal size
                    assert zstd.stdout
                    with temporary.open("wb") as out:
                        while block := zstd.stdout.read(CHUNK):
                            packed.update(block)
                            size += out.write(block)

                reader = threading.Thread(target=drain)
                reader.start()
                plain = hashlib.sha256()
                while block := tar.stdout.read(CHUNK):
                    plain.update(block)
                    zstd.stdin.write(block)
                zstd.stdin.close()
                reader.join()
            if tar.returncode or zstd.returncode:
                raise OciError(f"packing {tree} failed: tar ended with {tar.returncode}, zstd with {zstd.returncode}")
            temporary.chmod(0o644)
            digest = "sha256:" + packed.hexdigest()
            temporary.replace(self.path(digest))
        finally:
            temporary.unlink(missing_ok=True)
        return Layer(digest, size, "sha256:" + plain.hexdigest())

    def add_image(self, layers: Sequence[Layer], config: ImageConfig) -> str:
        """The digest of an image's manifest."""
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **config.env}
        body = {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": {
                "Entrypoint": list(config.entrypoint),
                "Env": [f"{key}={value}" for key, value in env.items()],
                "Labels": config.labels,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "molecule/sandbox"} for _ in layers],
        }
        data = json.dumps(body, sort_keys=True).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": self.add(data), "size": len(data)},
            "layers": [layer.descriptor() for layer in layers],
        }
        return self.add(json.dumps(manifest, sort_keys=True).encode())


class Registry:
    """A registry's HTTP API, as far as an upload needs it."""

    def __init__(self, url: str, timeout: float = 300) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OciError(f"registry {url!r}: want http://host:port")
        self.netloc, self.secure, self.timeout = parts.netloc, parts.scheme == "https", timeout

    def _request(
        self, method: str, path: str, body: Path | bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        connection = kind(self.netloc, timeout=self.timeout, blocksize=CHUNK)
        sent = dict(headers or {})
        with contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            payload: Any = body
            if isinstance(body, Path):
                payload = stack.enter_context(body.open("rb"))
                sent["Content-Length"] = str(body.stat().st_size)
            try:
                connection.request(method, path, payload, sent)
                answer = connection.getresponse()
                return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
            except (OSError, http.client.HTTPException) as err:
                raise OciError(f"registry {self.netloc}: {method} {path}: {err}") from err

    def has(self, repository: str, kind: str, reference: str) -> bool:
        status, _, _ = self._request("HEAD", f"/v2/{repository}/{kind}/{reference}", headers={"Accept": MANIFEST})
        return status == 200

    def upload(self, repository: str, digest: str, path: Path, mount_from: str | None = None) -> bool:
        """Uploads a blob that is not there; False if it was there or could be mounted from another repository."""
        if self.has(repository, "blobs", digest):
            return False
        query = "?" + urlencode({"mount": digest, "from": mount_from}) if mount_from else ""
        status, headers, body = self._request("POST", f"/v2/{repository}/blobs/uploads/{query}", b"")
        if status == 201:
            return False
        if status != 202:
            raise OciError(f"registry {self.netloc}: upload to {repository} refused: {status} {body[:200]!r}")
        location = urlsplit(headers["location"])
        target = f"{location.path}?{location.query + '&' if location.query else ''}{urlencode({'digest': digest})}"
        kind = {"Content-Type": "application/octet-stream"}
        status, _, body = self._request("PUT", target, path, kind)
        if status != 201:
            raise OciError(f"registry {self.netloc}: blob {digest} of {repository} refused: {status} {body[:200]!r}")
        return True

    def push(self, store: Store, repository: str, tag: str, digest: str, mount_from: str | None = None) -> bool:
        """Uploads an image; False if the tag names this digest already."""
        status, headers, _ = self._request("HEAD", f"/v2/{repository}/manifests/{tag}", headers={"Accept": MANIFEST})
        if status == 200 and headers.get("docker-content-digest") == digest:
            return False
        manifest = store.path(digest).read_bytes()
        content = json.loads(manifest)
        for blob in (content["config"], *content["layers"]):
            self.upload(repository, blob["digest"], store.path(blob["digest"]), mount_from)
        target = f"/v2/{repository}/manifests/{tag}"
        status, headers, body = self._request("PUT", target, manifest, {"Content-Type": MANIFEST})
        if status != 201:
            raise OciError(f"registry {self.netloc}: manifest of {repository}:{tag} refused: {status} {body[:300]!r}")
        stored = headers.get("docker-content-digest")
        if stored != digest:
            raise OciError(f"registry {self.netloc}: {repository}:{tag} became {stored} there, want {digest}")
        return True
