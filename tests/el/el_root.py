#!/usr/bin/env python3
# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes what the EL tests run on, and prints where it lies: a root for each EL, and repositories to install from.

A root is a Debian with Debian's dnf that takes itself for an EL: dnf 4.14 of Debian 12 for EL 9, which has that very
version, and 4.23 of Debian 13 for EL 10, which has 4.20. apt and dpkg are gone, rpm's data base is where EL has it and
holds what a fresh system has, os-release is an EL's, and what a host does not do here is done by the stand-ins of
doubles/. The packages (el_packages.py) are small ones, built and signed here.

The base and the cache are the sandbox's (molecule/sandbox/build.py); deleting the cache is safe. Needs root,
debootstrap and 2 GB of disk.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import el_packages
import el_rpm
from debrepo import agent
from el_rpm import Rpm, RsaSigner, build

HERE = Path(__file__).resolve().parent
DOUBLES = sorted(el_packages.DOUBLES.iterdir())
SUITES = {"9": "bookworm", "10": "trixie"}
PACKAGES = "dnf dnf-plugins-core rpm createrepo-c gpg gpg-agent kmod"
INSTALL = f"""
apt-get -q update
apt-get -q install -y --no-install-recommends {PACKAGES}
"""
SITE = "usr/lib/python3/dist-packages"
RPM_DATABASE = {"9": "/var/lib/rpm", "10": "/usr/lib/sysimage/rpm"}
# What only Debian has, and what a package of EL's brings here.
DROPS = (
    *("usr/bin/apt", "usr/bin/apt-get", "usr/bin/apt-cache", "usr/bin/apt-mark", "usr/bin/dpkg", "usr/bin/dpkg-query"),
    *("etc/apt", "var/lib/dpkg", "etc/debian_version", "etc/os-release", "usr/lib/os-release"),
    *("usr/bin/systemctl", "usr/sbin/modprobe", "usr/sbin/rmmod", "usr/share/doc", "usr/share/locale"),
    *("keys", "rpms"),  # where packages were built
    # plugins that a fresh EL has not
    *(
        f"{SITE}/dnf-plugins/{name}.py"
        for name in ("local", "system_upgrade", "show_leaves", "post-transaction-actions")
    ),
)
VERSIONLOCK = (
    "/etc/dnf/plugins/versionlock.conf",
    "/etc/dnf/plugins/versionlock.list",
    "/usr/lib/python3/dist-packages/dnf-plugins/versionlock.py",
)
# As EL has it.
DNF_CONF = """\
[main]
gpgcheck=1
installonly_limit=3
clean_requirements_on_remove=True
best=True
skip_if_unavailable=False
"""
SYSTEM_REPO = """\
[baseos]
name=The system's own packages
baseurl=http://$llmops_mirror/el/$releasever/$basearch
enabled=1
gpgcheck=0
"""
KEYS = {
    "docker": ("docker-ce/linux/centos/gpg", "forged/docker-ce/linux/centos/gpg"),
    "nvidia": (
        "libnvidia-container/gpgkey",
        "cuda/repos/rhel9/x86_64/D42D0685.pub",
        "cuda/repos/rhel10/x86_64/D42D0685.pub",
    ),
}
OTHER = "somebody-else"


def base_root(cache: build.Cache, system: str) -> tuple[Path, str]:
    """Debian with dnf and what makes packages and repositories."""
    base, base_key = build.debian_root(cache, SUITES[system], build.HOST_PACKAGES, ())
    key = build.digest(base_key, INSTALL)
    target = cache.directory / "roots" / f"dnf-{SUITES[system]}-{key}"
    if not target.is_dir():
        with build.timed(f"Debian {SUITES[system]} with dnf"), cache.making(target) as work:
            build.run("cp", "-a", "--reflink=auto", f"{base}/.", work)
            build.in_root(work, ["env", "DEBIAN_FRONTEND=noninteractive", "sh", "-ec", INSTALL])
    return target, key


def el_root(cache: build.Cache, system: str, base: Path, key: str) -> Path:
    target = cache.directory / "roots" / f"el-{system}-{key}"
    if target.is_dir():
        return target
    with build.timed(f"a root that takes itself for EL {system}"), cache.making(target) as work:
        build.run("cp", "-a", "--reflink=auto", f"{base}/.", work)
        for name in (*DROPS, *(path.lstrip("/") for path in VERSIONLOCK)):
            build.remove(work / name)
        pass_for_el(work, system)
        el_rpm.build_rpms(base, el_packages.installed(system), work / "root/packages")
        build.in_root(work, ["sh", "-ec", "rpm --initdb; rpm -i --excludedocs /root/packages/*.rpm"])
        shutil.rmtree(work / "root/packages")
        build.in_root(work, ["depmod", f"{el_packages.KERNELS[system][0]}.x86_64"])
        build.in_root(work, ["python3", "-c", "import el_kernel"])  # which leaves its byte code
    return target


def pass_for_el(root: Path, system: str) -> None:
    kernel = f"{el_packages.KERNELS[system][0]}.x86_64"
    texts = {
        "etc/rpm/macros.el": f"%_dbpath {RPM_DATABASE[system]}\n",
        "etc/dnf/dnf.conf": DNF_CONF,
        "etc/yum.repos.d/system.repo": SYSTEM_REPO,
        f"{SITE}/el_kernel.py": el_packages.double("el_kernel.py", KERNEL=kernel),
        f"{SITE}/el_kernel.pth": "import el_kernel\n",
    }
    programs = {"usr/bin/systemctl": "systemctl", "usr/sbin/modprobe": "modules", "usr/sbin/rmmod": "modules"}
    texts |= {path: el_packages.double(name) for path, name in {**programs, "usr/bin/dracut": "dracut"}.items()}
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        (root / path).chmod(0o755 if text.startswith("#!") else 0o644)
    for folder in ("etc/pki/rpm-gpg", "etc/docker", RPM_DATABASE[system].lstrip("/")):
        (root / folder).mkdir(parents=True, exist_ok=True)


# ---------------------------------------------------------------------------------------------------- repositories


def signing_keys(cache: build.Cache) -> dict[str, RsaSigner]:
    home = cache.directory / "roots" / f"el-keys-{build.digest('rsa3072')}"
    names = (*KEYS, OTHER)
    if not home.is_dir():
        with build.timed("keys for the EL repositories"), cache.making(home) as work, agent(work):
            for name in names:
                RsaSigner(work, name).create()
    return {name: RsaSigner(home, name) for name in names}


def repository(
    root: Path,
    folder: Path,
    rpms: Iterable[Rpm],
    packages: RsaSigner | None = None,
    metadata: RsaSigner | None = None,
    modules: str = "",
) -> None:
    """One repository; `packages` and `metadata` are who signs these."""
    el_rpm.build_rpms(root, rpms, folder)
    if packages:
        el_rpm.sign(root, folder, packages)
    el_rpm.index(root, folder, modules=modules)
    if metadata:
        metadata.detach(folder / "repodata/repomd.xml")


def write_tree(tree: Path, roots: Mapping[str, Path], keys: Mapping[str, RsaSigner]) -> None:
    """All repositories, keys, and below .variants what mirror.py serves instead when a fault is on."""
    for system, root in roots.items():
        plugin = {path: (root / path.lstrip("/")).read_bytes() for path in VERSIONLOCK}
        repository(root, tree / f"el/{system}/x86_64", el_packages.offered(system, plugin))
        repository(root, tree / f"epel/{system}/x86_64", el_packages.epel(system))
        stable = f"docker-ce/linux/centos/{system}/x86_64/stable"
        repository(root, tree / stable, el_packages.docker(system), packages=keys["docker"])
        old = el_packages.docker(system, el_packages.DOCKER[:1])
        repository(root, tree / ".variants/no_version" / stable, old, packages=keys["docker"])
        repository(root, tree / "forged" / stable, el_packages.docker(system), packages=keys[OTHER])
        cuda = tree / f"cuda/repos/rhel{system}/x86_64"
        streams, by = el_packages.module_streams(system), keys["nvidia"]
        repository(root, cuda, el_packages.driver_rpms(system), packages=by, metadata=by, modules=streams)
    # NVIDIA signs the metadata of this one, and not its packages
    toolkit = tree / "libnvidia-container/stable/rpm/x86_64"
    repository(roots["9"], toolkit, el_packages.toolkit(), metadata=keys["nvidia"])
    for owner, paths in KEYS.items():
        for path in paths:
            for top, signer in ((tree, keys[owner]), (tree / ".variants/wrong_key", keys[OTHER])):
                (top / path).parent.mkdir(parents=True, exist_ok=True)
                (top / path).write_bytes(signer.public())


# ---------------------------------------------------------------------------------------------------- all of it


@dataclass(frozen=True)
class Made:
    """Roots by system, the tree of repositories, and fingerprints by owner."""

    roots: Mapping[str, Path]
    tree: Path
    fingerprints: Mapping[str, str]


def make(cache: build.Cache) -> Made:
    keys = signing_keys(cache)
    with agent(next(iter(keys.values())).home):
        bases = {system: base_root(cache, system) for system in SUITES}
        fingerprints = {name: signer.fingerprint for name, signer in keys.items()}
        recipe = [HERE / name for name in ("el_root.py", "el_rpm.py", "el_packages.py")]
        recipe.append(Path(build.__file__).with_name("docker_units.py"))
        key = build.digest(*(key for _base, key in bases.values()), *recipe, *DOUBLES, *fingerprints.values())
        roots = {system: el_root(cache, system, base, key) for system, (base, _key) in bases.items()}
        tree = cache.directory / "roots" / f"el-repositories-{key}"
        if not tree.is_dir():
            with build.timed("the EL repositories"), cache.making(tree) as work:
                write_tree(work, {system: base for system, (base, _key) in bases.items()}, keys)
    for old in (cache.directory / "roots").glob("el-[1-9r]*"):
        if not old.name.endswith(key):
            build.remove(old)
    return Made(roots, tree, fingerprints)


def cached() -> Made:
    build.preconditions()
    cache = build.Cache(build.cache_directory())
    with cache.locked():
        return make(cache)


def main() -> int:
    try:
        made = cached()
    except (build.BuildError, OSError) as err:
        print(f"el_root.py: {err}", file=sys.stderr)
        return 1
    print(*made.roots.values(), made.tree, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
