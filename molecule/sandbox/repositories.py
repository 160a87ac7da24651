#!/usr/bin/env python3
# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the package repositories that mirror.py serves, signed with a key of this cache.

  repositories.py build     makes the tree if it is not in the cache yet and prints its place and its key as JSON

docker-ce/...             as mirrors of download.docker.com have it: Debian 12, 13 and Ubuntu 22.04, 24.04, 26.04
libnvidia-container/...   the NVIDIA Container Toolkit, one flat repository
compute/cuda/repos/...    NVIDIA's drivers, one flat repository a system
ubuntu/...                the drivers in Ubuntu's own archive, and kernels
kernel/...                headers of a kernel, as Debian's archive has them

proves: docker-ce and the packages around it carry a real engine, Debian 13's, under the names, versions, dependencies
and units of Docker's own; it runs on Debian 12 and 13. apt resolves, pins and holds NVIDIA's packages by their names.
does_not_prove: anything about Docker's or NVIDIA's own builds. All versions of a package are labels on the same engine;
runc is Debian 12's. NVIDIA's packages hold next to nothing (nvidia_debs.py), nvidia-driver-pinning pins nothing. The
Ubuntu suites carry Debian's engine: they serve hosts whose os-release says Ubuntu, no Ubuntu.

Everything comes from the machine's Debian mirror, through the roots that build.py makes; see there for the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nvidia_debs
from build import (
    BASE_DROPS,
    BASE_PACKAGES,
    BASE_SUITE,
    HERE,
    HOST_PACKAGES,
    HOST_SUITE,
    BuildError,
    Cache,
    cache_directory,
    debian_root,
    digest,
    in_root,
    preconditions,
    remove,
    run,
    timed,
)
from debrepo import Deb, Signer, Suite, agent, pad
from docker_units import DOCKER_SERVICE, DOCKER_SOCKET

DATA_RECIPE = "1"  # raise it to take the engine from Debian anew
KEY_NAME, OTHER_KEY_NAME = "sandbox", "somebody-else"
EXPIRED = {"Valid-Until": "Thu, 01 Jan 2026 00:00:00 UTC"}
SYSTEMS = {
    "bookworm": ("debian", "debian.12"),
    "trixie": ("debian", "debian.13"),
    "jammy": ("ubuntu", "ubuntu.22.04"),
    "noble": ("ubuntu", "ubuntu.24.04"),
    "resolute": ("ubuntu", "ubuntu.26.04"),
}
FROM_TRIXIE = ("docker.io", "docker-cli", "docker-compose", "docker-buildx", "containerd", "tini")
FROM_BOOKWORM = ("runc",)  # trixie's needs glibc 2.38, all else runs on bookworm's 2.36
PLUGINS = "usr/libexec/docker/cli-plugins"
# Where Docker's own packages have their files, and where Debian's have them
CONTENTS = {
    "docker-ce": {
        "usr/bin/dockerd": "docker.io/usr/sbin/dockerd",
        "usr/bin/docker-proxy": "docker.io/usr/sbin/docker-proxy",
        "usr/bin/docker-init": "tini/usr/bin/tini-static",
    },
    "docker-ce-cli": {"usr/bin/docker": "docker-cli/usr/bin/docker"},
    "containerd.io": {
        "usr/bin/containerd": "containerd/usr/bin/containerd",
        "usr/bin/containerd-shim-runc-v2": "containerd/usr/bin/containerd-shim-runc-v2",
        "usr/bin/ctr": "containerd/usr/bin/ctr",
        "usr/bin/runc": "runc/usr/sbin/runc",
    },
    "docker-buildx-plugin": {f"{PLUGINS}/docker-buildx": f"docker-buildx/{PLUGINS}/docker-buildx"},
    "docker-compose-plugin": {f"{PLUGINS}/docker-compose": f"docker-compose/{PLUGINS}/docker-compose"},
}
CONTAINERD_SERVICE = """\
[Unit]
Description=containerd container runtime
After=network.target dbus.service

[Service]
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
"""
CONTAINERD_CONFIG = 'disabled_plugins = ["cri"]\n'
UNITS = {
    "docker-ce": {"docker.service": DOCKER_SERVICE, "docker.socket": DOCKER_SOCKET},
    "containerd.io": {"containerd.service": CONTAINERD_SERVICE},
}
# As in docker-ce-packaging's control file and containerd.io's
FIELDS = {
    "docker-ce": {
        "Depends": "containerd.io (>= 1.7.0), docker-ce-cli, iptables, libc6 (>= 2.34), libsystemd0",
        "Recommends": "apparmor, ca-certificates, git, pigz, procps, xz-utils",
        "Conflicts": "docker (<< 1.5~), docker-engine, docker.io",
        "Replaces": "docker-engine",
    },
    "docker-ce-cli": {
        "Depends": "libc6 (>= 2.34)",
        "Recommends": "docker-buildx-plugin, docker-compose-plugin",
        "Conflicts": "docker (<< 1.5~), docker-engine, docker.io",
    },
    "containerd.io": {
        "Depends": "libc6 (>= 2.34), libseccomp2 (>= 2.5.0)",
        "Provides": "containerd, runc",
        "Conflicts": "containerd, runc",
        "Replaces": "containerd, runc",
    },
    "docker-buildx-plugin": {"Depends": "libc6 (>= 2.34)", "Enhances": "docker-ce-cli"},
    "docker-compose-plugin": {
        "Depends": "libc6 (>= 2.34)",
        "Enhances": "docker-ce-cli",
        "Conflicts": "docker-compose",
        "Replaces": "docker-compose",
        "Breaks": "docker-compose",
    },
}


# ---------------------------------------------------------------------------------------------------- Docker


def scripts(name: str) -> dict[str, str]:
    """What debhelper would write for a package with units."""
    units = " ".join(UNITS.get(name, {}))
    if not units:
        return {}
    group = "getent group docker >/dev/null || groupadd --system docker\n" if name == "docker-ce" else ""
    start = f"""#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
{group}deb-systemd-helper unmask {units} >/dev/null || true
for unit in {units}; do
  if deb-systemd-helper --quiet was-enabled $unit; then deb-systemd-helper enable $unit >/dev/null || true; fi
done
if [ -d /run/systemd/system ]; then
  systemctl --system daemon-reload >/dev/null || true
  [ -n "$2" ] && action=restart || action=start
  deb-systemd-invoke $action {units} >/dev/null || true
fi
"""
    stop = f"""#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then deb-systemd-invoke stop {units} >/dev/null || true; fi
"""
    forget = f"""#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl --system daemon-reload >/dev/null || true; fi
if [ "$1" = purge ]; then deb-systemd-helper purge {units} >/dev/null || true; fi
"""
    conffiles = {"conffiles": "/etc/containerd/config.toml\n"} if name == "containerd.io" else {}
    return {"postinst": start, "prerm": stop, "postrm": forget, **conffiles}


def engine_data(cache: Cache) -> Path:
    """<package>/data.tar.zst for each of Docker's packages, out of Debian's, and versions.json."""
    trixie, trixie_key = debian_root(cache, HOST_SUITE, HOST_PACKAGES, ())
    bookworm, bookworm_key = debian_root(cache, BASE_SUITE, BASE_PACKAGES, BASE_DROPS)
    layout = json.dumps([CONTENTS, UNITS, CONTAINERD_CONFIG])
    target = cache.directory / "roots" / f"engine-packages-{digest(DATA_RECIPE, trixie_key, bookworm_key, layout)}"
    if target.is_dir():
        return target
    with timed("Docker's packages out of Debian's"), cache.scratch("debs") as work, cache.making(target) as out:
        versions = {}
        for root, names in ((trixie, FROM_TRIXIE), (bookworm, FROM_BOOKWORM)):
            get = f"apt-get -q update && cd /mnt && apt-get -q download {' '.join(names)}"
            in_root(root, ["sh", "-c", get], {"/mnt": work})
            for name in names:
                deb = next(iter(work.glob(f"{name}_*.deb")))
                run("dpkg-deb", "-x", deb, work / name)
                versions[name] = run("dpkg-deb", "-f", deb, "Version").stdout.strip()
        for name, files in CONTENTS.items():
            pack(name, files, work, out)
        (out / "versions.json").write_text(json.dumps(versions, indent=2))
    return target


def pack(name: str, files: dict[str, str], work: Path, out: Path) -> None:
    stage = work / "stage" / name
    for place, source in files.items():
        (stage / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(work / source, stage / place)
        (stage / place).chmod(0o755)
    texts = {f"usr/lib/systemd/system/{unit}": text for unit, text in UNITS.get(name, {}).items()}
    if name == "containerd.io":
        texts["etc/containerd/config.toml"] = CONTAINERD_CONFIG
    for place, text in texts.items():
        (stage / place).parent.mkdir(parents=True, exist_ok=True)
        (stage / place).write_text(text)
    data = out / name / "data.tar.zst"
    data.parent.mkdir()
    owner = ("--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner")
    run("tar", *owner, "-I", "zstd -q -T0 -6", "-C", stage, "-cf", data, ".")
    pad(data)


def upstream(version: str) -> str:
    """26.1.5 of Debian's 26.1.5+dfsg1-9."""
    found = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", version)
    if not found:
        raise BuildError(f"{version} is no version that Docker's could be made of: look at what Debian has")
    return found[1]


def docker_versions(debian: dict[str, str]) -> dict[str, list[str]]:
    """By package, oldest first, less what stands for the system. The engine's own is the last but one."""
    engine = upstream(debian["docker.io"])
    major, minor, patch = (int(part) for part in engine.split("."))
    older = f"{major}.{minor}.{patch - 1}" if patch else f"{major}.{minor - 1}.9"
    labels = [f"5:{major - 1}.0.5-1", f"5:{older}-1", f"5:{engine}-1", f"5:{engine}-2"]
    containerd = upstream(debian["containerd"])
    return {
        "docker-ce": labels,
        "docker-ce-cli": labels,
        "containerd.io": [f"{containerd}-1", f"{containerd}-2"],
        "docker-buildx-plugin": [f"{upstream(debian['docker-buildx'])}-1"],
        "docker-compose-plugin": [f"{upstream(debian['docker-compose'])}-1"],
    }


def docker_suites(tree: Path, data: Path) -> Iterable[Suite]:
    shutil.copytree(data, tree / ".data", copy_function=os.link)
    versions = docker_versions(json.loads((data / "versions.json").read_text()))
    for suite, (system, label) in SYSTEMS.items():
        base = tree / "docker-ce" / "linux" / system
        pool = f"dists/{suite}/pool/stable/amd64/"
        stanzas = []
        for name, numbers in versions.items():
            for number in numbers:
                fields, file = FIELDS[name], tree / ".data" / name / "data.tar.zst"
                deb = Deb(name, f"{number}~{label}~{suite}", fields, scripts=scripts(name), data=file)
                stanzas.append(deb.write(base / pool, tree, pool))
        fields = {"Origin": "Docker", "Label": "Docker CE", "Suite": suite, "Codename": suite}
        fields |= {"Architectures": "amd64", "Components": "stable"}
        yield Suite(f"docker-ce/linux/{system}/dists/{suite}", fields, {"stable/binary-amd64": stanzas})


# ---------------------------------------------------------------------------------------------------- NVIDIA


def nvidia_suites(tree: Path) -> Iterable[Suite]:
    flat = {"kernel": nvidia_debs.debian_kernel_debs()}
    flat["libnvidia-container/stable/deb/amd64"] = nvidia_debs.toolkit_debs()
    flat |= {f"compute/cuda/repos/{system}/x86_64": nvidia_debs.driver_debs(system) for system in nvidia_debs.CUDA_KEYS}
    for folder, debs in flat.items():
        stanzas = [deb.write(tree / folder, tree, "./") for deb in debs]
        yield Suite(folder, {"Origin": "NVIDIA", "Label": "NVIDIA CUDA", "Architectures": "amd64"}, {".": stanzas})
    for codename in nvidia_debs.UBUNTUS:
        for pocket in ("", "-updates", "-security"):
            name, packages = f"{codename}{pocket}", {}
            debs = {"main": nvidia_debs.ubuntu_kernel_debs(codename), "restricted": nvidia_debs.archive_debs(codename)}
            for component, found in debs.items():
                pool = f"pool/{component}/{codename}/"
                stanzas = [deb.write(tree / "ubuntu" / pool, tree, pool) for deb in found if pocket == "-updates"]
                packages[f"{component}/binary-amd64"] = stanzas
            fields = {"Origin": "Ubuntu", "Label": "Ubuntu", "Suite": name, "Codename": codename}
            fields |= {"Architectures": "amd64", "Components": "main restricted"}
            yield Suite(f"ubuntu/dists/{name}", fields, packages, by_hash=True)


KEYS = (
    *("docker-ce/linux/debian/gpg", "docker-ce/linux/ubuntu/gpg", "libnvidia-container/gpgkey", "kernel/key"),
    *(f"compute/cuda/repos/{system}/x86_64/{key}" for system, key in nvidia_debs.CUDA_KEYS.items()),
    "ubuntu/project/ubuntu-archive-keyring.gpg",
)


# ---------------------------------------------------------------------------------------------------- the tree


def signing_keys(cache: Cache) -> tuple[Signer, Signer]:
    """The key of this cache's trees, and one that has no business in them."""
    home = cache.directory / "roots" / f"repository-keys-{digest('keys')}"
    if not home.is_dir():
        with timed("a key for the repositories"), cache.making(home) as work, agent(work):
            for name in (KEY_NAME, OTHER_KEY_NAME):
                Signer(work, name).create()
    return Signer(home, KEY_NAME), Signer(home, OTHER_KEY_NAME)


def oldest(suite: Suite) -> Suite:
    """The suite with the first version of each package: they are listed oldest first."""
    packages = {}
    for place, stanzas in suite.packages.items():
        first: dict[str, str] = {}
        for stanza in stanzas:
            first.setdefault(stanza.split("\n", 1)[0], stanza)
        packages[place] = list(first.values())
    return Suite(suite.folder, suite.fields, packages, suite.by_hash)


def write_tree(tree: Path, suites: Iterable[Suite], keys: Iterable[str], signer: Signer, other: Signer) -> None:
    """Indexes, keys, and below .variants what mirror.py serves instead when a fault is on."""
    variants = tree / ".variants"
    for suite in suites:
        suite.write(tree, signer)
        suite.write(variants / "expired", signer, EXPIRED)
        suite.write(variants / "wrong_key", other)
        oldest(suite).write(variants / "no_version", signer)
    for key in keys:
        for top, owner in ((tree, signer), (variants / "wrong_key", other)):
            (top / key).parent.mkdir(parents=True, exist_ok=True)
            (top / key).write_bytes(owner.public())


def build(cache: Cache) -> dict[str, Any]:
    preconditions()
    if not shutil.which("gpg"):
        raise BuildError("missing: gpg; run scripts/setup, which installs it with apt-get")
    with cache.locked():
        signer, other = signing_keys(cache)
        with agent(signer.home):
            fingerprint, wrong = signer.fingerprint, other.fingerprint
            data = engine_data(cache)
            recipes = (HERE / name for name in ("repositories.py", "docker_units.py", "nvidia_debs.py", "debrepo.py"))
            key = digest(*recipes, data.name, fingerprint, wrong)
            tree = cache.directory / "roots" / f"repositories-{key}"
            if not tree.is_dir():
                with timed("package repositories"), cache.making(tree) as work:
                    write_tree(work, [*docker_suites(work, data), *nvidia_suites(work)], KEYS, signer, other)
                for old in tree.parent.glob("repositories-*"):
                    if old != tree:
                        remove(old)
    debian = json.loads((data / "versions.json").read_text())
    return {
        "tree": str(tree),
        "fingerprint": fingerprint,
        "wrong_fingerprint": wrong,
        "engine": upstream(debian["docker.io"]),
        "versions": docker_versions(debian),
        "debian_versions": debian,
        "kernels": nvidia_debs.KERNELS,
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Builds the package repositories of the sandbox.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="make what is missing, print what there is as JSON")
    parser.parse_args(argv)
    try:
        print(json.dumps(build(Cache(cache_directory())), indent=2))
    except (BuildError, OSError) as err:
        print(f"repositories.py: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
