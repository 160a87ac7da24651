# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small .rpm files and dnf's repositories of them: rpmbuild, rpmsign and createrepo_c, run in a root that has them."""

from __future__ import annotations

import shutil
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "molecule" / "sandbox"))

import build
from debrepo import Signer

# what EL's rpmbuild does to programs is of no use here
SPEC_HEAD = """\
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
%global _binary_payload w1.gzdio
Name: llmops-el-tests
Version: 1
Release: 1
Summary: Packages of the llmops.fleet tests
License: GPL-3.0-or-later
%description
%{summary}
%install
cp -a %{_sourcedir}/. %{buildroot}
"""
RELATIONS = ("Requires", "Provides", "Conflicts", "Obsoletes", "Recommends")


class RsaSigner(Signer):
    """With keys as the real repositories have them, which every rpm understands."""

    def create(self) -> RsaSigner:
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        self.gpg("--quick-gen-key", self.uid, "rsa3072", "sign", "never")
        return self

    @property
    def uid(self) -> str:
        return f"{self.name} <{self.name}@localhost>"

    def detach(self, path: Path) -> None:
        path.with_name(f"{path.name}.asc").write_bytes(
            self.gpg("--local-user", f"<{self.name}@localhost>", "--armor", "--detach-sign", data=path.read_bytes())
        )


@dataclass(frozen=True)
class Rpm:
    """A package to be made. `version` is [epoch:]version-release; a file that is a Path is a link to there."""

    name: str
    version: str
    relations: Mapping[str, Sequence[str]] = field(default_factory=dict)
    files: Mapping[str, bytes | str | Path] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)

    def spec(self) -> str:
        epoch, colon, rest = self.version.rpartition(":")
        version, _hyphen, release = rest.rpartition("-")
        lines = [f"%package -n {self.name}", f"Version: {version}", f"Release: {release}", "AutoReqProv: no"]
        lines += [f"Epoch: {epoch}"] if colon else []
        lines += [f"{key}: {item}" for key in RELATIONS for item in self.relations.get(key, ())]
        lines += ["Summary: %{name} of the llmops.fleet tests", f"%description -n {self.name}", "%{summary}"]
        for when, script in self.scripts.items():
            lines += [f"%{when} -n {self.name}", script.rstrip()]
        # a link's target is another package's
        return "\n".join([*lines, f"%files -n {self.name}", "%defattr(-,root,root,-)", *self.files]) + "\n"

    def stage(self, folder: Path) -> None:
        for path, content in self.files.items():
            target = folder / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                target.symlink_to(content)
                continue
            data = content.encode() if isinstance(content, str) else content
            target.write_bytes(data)
            target.chmod(0o755 if data.startswith(b"#!") else 0o644)


def batches(rpms: Iterable[Rpm]) -> list[list[Rpm]]:
    """Packages that one spec file can make: no name twice."""
    found: list[list[Rpm]] = []
    for rpm in rpms:
        batch = next((batch for batch in found if rpm.name not in {other.name for other in batch}), None)
        if batch is None:
            found.append(batch := [])
        batch.append(rpm)
    return found


def build_rpms(root: Path, rpms: Iterable[Rpm], target: Path) -> None:
    """Writes the packages into `target`, made by the rpmbuild of a root."""
    target.mkdir(parents=True, exist_ok=True)
    for number, batch in enumerate(batches(rpms)):
        work = target / f".build-{number}"
        for name in ("SOURCES", "SPECS"):
            (work / name).mkdir(parents=True)
        for rpm in batch:
            rpm.stage(work / "SOURCES")
        (work / "SPECS/packages.spec").write_text(SPEC_HEAD + "".join(rpm.spec() for rpm in batch))
        words = ["rpmbuild", "--quiet", "--define", "_topdir /rpms", "--target", "x86_64", "-bb"]
        build.in_root(root, [*words, "/rpms/SPECS/packages.spec"], {"/rpms": work})
        for made in work.glob("RPMS/*/*.rpm"):
            made.rename(target / made.name)
        shutil.rmtree(work)


def sign(root: Path, folder: Path, signer: Signer) -> None:
    """Signs the packages of a folder, as `rpm --checksig` and dnf's gpgcheck look for it."""
    # Debian's rpm looks for gpg2
    script = 'rpmsign --define "__gpg /usr/bin/gpg" --define "_gpg_name <$0@localhost>" --addsign /rpms/*.rpm'
    words = ["env", "GNUPGHOME=/keys", "sh", "-ec", f"{script}; gpgconf --kill all", signer.name]
    build.in_root(root, words, {"/rpms": folder, "/keys": signer.home})


def index(root: Path, folder: Path, modules: str = "") -> None:
    """repodata of a folder, with the root's createrepo_c, and a document of modules in it."""
    build.in_root(root, ["createrepo_c", "--quiet", "--no-database", "/rpms"], {"/rpms": folder})
    if modules:
        (folder / "modules.yaml").write_text(modules)
        words = ["modifyrepo_c", "--mdtype=modules", "/rpms/modules.yaml", "/rpms/repodata"]
        build.in_root(root, words, {"/rpms": folder})
        (folder / "modules.yaml").unlink()


def kernel_module(name: str, **fields: str) -> bytes:
    """An ELF object that holds what modinfo reads, and no code."""
    info = b"".join(f"{key}={value}".encode() + b"\0" for key, value in {"name": name, **fields}.items())
    names = b"\0.modinfo\0.shstrtab\0.strtab\0.symtab\0"
    sections, body = [(0, 0, 0, 0, 0)], b""
    for section, kind, data, entry in (
        (b".modinfo", 1, info, 0),
        (b".shstrtab", 3, names, 0),
        (b".strtab", 3, b"\0", 0),
        (b".symtab", 2, bytes(24), 24),
    ):
        sections.append((names.index(section), kind, 64 + len(body), len(data), entry))
        body += data + bytes(-len(data) % 8)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01", 1, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(sections), 2),
    )
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", label, kind, 0, 0, at, size, 3 if kind == 2 else 0, 0, 8 if kind == 2 else 1, entry)
        for label, kind, at, size, entry in sections
    )
    return header + body + table
