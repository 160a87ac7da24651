# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Container image references: parse, refuse what floats, put a registry in front."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])"
_REFERENCE = re.compile(
    rf"^(?:(?P<registry>{_HOST}(?::[0-9]+)?)/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?$"
)


def _is_registry(component: str) -> bool:
    """Docker's rule: the first component is a registry if it has a dot or a port, or is localhost."""
    return "." in component or ":" in component or component == "localhost"


@dataclass(frozen=True)
class ImageName:
    """``registry`` is None where the reference names none (Docker Hub)."""

    registry: str | None
    path: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, reference: str, where: str) -> ImageName:
        """Parse ``[registry/]path[:tag][@digest]``; raise SpecError(where) if it is none or floats."""
        match = _REFERENCE.match(reference)
        if not match:
            raise SpecError(where, f'"{reference}" is no image reference; write [REGISTRY/]NAME:TAG[@sha256:DIGEST]')
        registry, path = match["registry"], match["path"]
        if registry is not None and not _is_registry(registry):
            registry, path = None, f"{registry}/{path}"
        if match["digest"] is None and match["tag"] in (None, "latest"):
            shown = "no tag" if match["tag"] is None else "tag latest"
            raise SpecError(where, f'"{reference}" has {shown}, which changes under you; name a version or a digest')
        return cls(registry, path, match["tag"], match["digest"])

    def with_registry(self, registry: str) -> ImageName:
        """The same image from ``registry`` (HOST[:PORT][/PREFIX]), unless it names a registry of its own."""
        if self.registry is not None or not registry:
            return self
        host, _slash, prefix = registry.strip("/").partition("/")
        return ImageName(host, f"{prefix}/{self.path}" if prefix else self.path, self.tag, self.digest)

    def __str__(self) -> str:
        return "".join(
            (
                f"{self.registry}/" if self.registry else "",
                self.path,
                f":{self.tag}" if self.tag else "",
                f"@{self.digest}" if self.digest else "",
            )
        )

    def stored_names(self) -> set[str]:
        """The names under which a Docker Engine lists the image once it is pulled, any of them."""
        hub = self.registry in (None, "docker.io", "index.docker.io")
        name = self.path.removeprefix("library/") if hub else f"{self.registry}/{self.path}"
        if self.digest:
            return {f"{name}@{self.digest}"}
        return {f"{name}:{self.tag}"}
