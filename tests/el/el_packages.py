# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests' repositories hold: packages with the names, versions, relations and places of the real ones.

Constructed after docker-ce-packaging's and NVIDIA's spec files; what a package holds is a marker, a program of doubles/
or nothing. Systems are "9" and "10".
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "molecule" / "sandbox"))

from docker_units import DOCKER_SERVICE, DOCKER_SOCKET
from el_rpm import Rpm, kernel_module

DOUBLES = Path(__file__).resolve().parent / "doubles"

# The kernel that runs, and the one that the system's repository has by now.
KERNELS = {
    "9": ("5.14.0-570.22.1.el9_6", "5.14.0-611.5.1.el9_7"),
    "10": ("6.12.0-55.12.1.el10_0", "6.12.0-124.8.1.el10_1"),
}
# dnf installs these beside the ones that are there
SEVERAL = ("installonlypkg(kernel)",)
RELEASES = {"9": ("rocky", "Rocky Linux", "9.6", "Blue Onyx"), "10": ("almalinux", "AlmaLinux", "10.0", "Purple Lion")}

DOCKER = ("28.5.2-1", "29.6.0-1", "29.7.1-1", "29.7.2-1")
CONTAINERD = ("2.1.5-1", "2.2.1-1")
BUILDX, COMPOSE = "0.34.1-1", "5.5.0-1"
TOOLKIT = ("1.17.4-1", "1.17.8-1", "1.19.1-1", "1.20.0-1")
DRIVERS = ("580.159.04", "580.173.02", "590.48.01", "595.71.05")

COMPOSE_PLUGIN = "/usr/libexec/docker/cli-plugins/docker-compose"
GROUP = "getent group docker >/dev/null || groupadd --system docker"
# what rpm's %systemd_preun and %systemd_postun_with_restart become
DOCKER_SCRIPTS = {
    "post": GROUP,
    "preun": "[ $1 -ne 0 ] || systemctl --no-reload disable --now docker.service docker.socket || :",
    "postun": "[ $1 -lt 1 ] || systemctl try-restart docker.service || :",
}


def double(name: str, **values: str) -> str:
    text = (DOUBLES / name).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def marker(name: str, version: str, files: Mapping[str, bytes | str | Path] | None = None, **more: object) -> Rpm:
    relations = {key: value for key, value in more.items() if key != "scripts"}
    text = f"{name} {version}: a package of the llmops.fleet tests\n"
    content = {f"/usr/share/llmops-el/{name}-{version}": text, **(files or {})}
    return Rpm(name, version, relations, content, more.get("scripts") or {})  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- Docker


def docker(system: str, versions: Iterable[str] = DOCKER) -> Iterable[Rpm]:
    el = f".el{system}"
    for version in versions:
        upstream = version.partition("-")[0]
        yield marker(
            "docker-ce",
            f"3:{version}{el}",
            {
                "/usr/bin/dockerd": double("dockerd", VERSION=upstream),
                "/usr/lib/systemd/system/docker.service": DOCKER_SERVICE,
                "/usr/lib/systemd/system/docker.socket": DOCKER_SOCKET,
            },
            Requires=(
                *("/usr/sbin/groupadd", "docker-ce-cli", "container-selinux", "systemd", "(iptables-nft or iptables)"),
                *("nftables", "containerd.io >= 1.7.27", "tar", "xz"),
            ),
            Recommends=("docker-ce-rootless-extras",),
            Conflicts=("docker", "docker-io", "docker-ee"),
            scripts=DOCKER_SCRIPTS,
        )
        yield marker(
            "docker-ce-cli",
            f"1:{version}{el}",
            Requires=("/bin/sh", "/usr/sbin/groupadd"),
            Recommends=("docker-buildx-plugin", "docker-compose-plugin"),
            Conflicts=("docker", "docker-io", "docker-ee", "docker-ee-cli"),
            scripts={"post": GROUP},
        )
        yield marker("docker-ce-rootless-extras", f"{version}{el}", Requires=("docker-ce",))
    for version in CONTAINERD:
        taken = ("containerd", "runc")
        yield marker(
            "containerd.io",
            f"{version}{el}",
            Requires=("container-selinux",),
            Provides=taken,
            Conflicts=taken,
            Obsoletes=taken,
        )
    yield marker("docker-buildx-plugin", f"{BUILDX}{el}")
    plugin = f"#!/bin/sh\necho {COMPOSE.partition('-')[0]}\n"
    yield marker("docker-compose-plugin", f"{COMPOSE}{el}", {COMPOSE_PLUGIN: plugin})


# ---------------------------------------------------------------------------------------------------- NVIDIA

CDI_UNITS = {
    "/usr/lib/systemd/system/nvidia-cdi-refresh.service": (
        "[Service]\nType=oneshot\nExecStart=/usr/bin/true\n\n[Install]\nWantedBy=multi-user.target\n"
    ),
    "/usr/lib/systemd/system/nvidia-cdi-refresh.path": (
        "[Path]\nPathChanged=/usr/bin/nvidia-ctk\n\n[Install]\nWantedBy=multi-user.target\n"
    ),
}


def toolkit() -> Iterable[Rpm]:
    """One repository for every system: these carry no suffix of a system."""
    hook = {"/usr/bin/nvidia-container-runtime-hook": "#!/bin/sh\nexit 1\n"}
    for version in TOOLKIT:
        units = CDI_UNITS if tuple(int(part) for part in version.split("-")[0].split(".")) >= (1, 18, 0) else {}
        yield marker("libnvidia-container1", version)
        yield marker("libnvidia-container-tools", version, Requires=(f"libnvidia-container1 >= {version}",))
        yield marker("nvidia-container-toolkit-base", version, units)
        needs = (f"nvidia-container-toolkit-base = {version}", f"libnvidia-container-tools >= {version}")
        yield marker("nvidia-container-toolkit", version, hook, Requires=needs)


PERSISTENCED = {
    "/usr/bin/nvidia-persistenced": "#!/bin/sh\nexec sleep infinity\n",
    "/usr/lib/systemd/system/nvidia-persistenced.service": (
        "[Service]\nType=forking\nExecStart=/usr/bin/nvidia-persistenced --verbose\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    ),
}


def modules(system: str, driver: str, name: str, source: str, license_: str) -> Rpm:
    """kmod-nvidia-open-dkms or kmod-nvidia-latest-dkms."""
    files = {
        f"/usr/src/{source}-{driver}/{module}.ko": kernel_module(
            module, license=license_, version=driver, vermagic=f"{KERNELS[system][0]}.x86_64 SMP"
        )
        for module in ("nvidia", "nvidia-uvm")
    }
    others = {"kmod-nvidia-open-dkms", "kmod-nvidia-latest-dkms"} - {name}
    return marker(
        name,
        f"3:{driver}-1.el{system}",
        files,
        Provides=(f"nvidia-kmod = 3:{driver}",),
        Requires=(f"nvidia-kmod-common = 3:{driver}", "dkms"),
        Conflicts=tuple(others),
        # as the real ones: what dkms fails at does not fail the transaction
        scripts={
            "post": f"dkms install {source} {driver} || :",
            "preun": f"dkms remove {source} {driver} || :",
        },
    )


def driver_rpms(system: str) -> Iterable[Rpm]:
    for driver in DRIVERS:
        version, exactly = f"3:{driver}-1.el{system}", f"= 3:{driver}"
        yield modules(system, driver, "kmod-nvidia-open-dkms", "nvidia-open", "Dual MIT/GPL")
        yield modules(system, driver, "kmod-nvidia-latest-dkms", "nvidia", "NVIDIA")
        yield marker("nvidia-kmod-common", version, Requires=(f"nvidia-kmod {exactly}",))
        yield marker("libnvidia-ml", version)
        yield marker("libnvidia-cfg", version)
        yield marker("nvidia-driver-cuda-libs", version, Requires=(f"libnvidia-ml {exactly}",))
        yield marker("nvidia-persistenced", version, PERSISTENCED, Requires=(f"libnvidia-cfg {exactly}",))
        needs = (f"nvidia-driver-cuda-libs {exactly}", f"nvidia-kmod {exactly}", f"nvidia-persistenced {exactly}")
        yield marker("nvidia-driver-cuda", version, Requires=needs)
        yield marker("nvidia-driver", version, Requires=(f"nvidia-driver-cuda {exactly}",))
        yield marker("nvidia-fabricmanager", f"{driver}-1")
    yield marker("nvidia-container-toolkit", "1.13.5-1")  # an old one, which this repository has too


def module_streams(system: str) -> str:
    """EL 9: branches are streams of module nvidia-driver. EL 10 has none."""
    if system != "9":
        return ""
    documents = []
    for number, (stream, driver) in enumerate(streams().items()):
        kind = "kmod-nvidia-open-dkms" if "open" in stream else "kmod-nvidia-latest-dkms"
        artifacts = [
            f"{rpm.name}-{rpm.version if ':' in rpm.version else f'0:{rpm.version}'}.x86_64"
            for rpm in driver_rpms(system)
            if f"{driver}-1" in rpm.version and (not rpm.name.startswith("kmod-") or rpm.name == kind)
        ]
        branch = [
            f"{rpm.name}-{rpm.version if ':' in rpm.version else f'0:{rpm.version}'}.x86_64"
            for rpm in driver_rpms(system)
            if rpm.version.rpartition(":")[2].partition(".")[0] == driver.partition(".")[0]
            and rpm.version.rpartition(":")[2].partition("-")[0] != driver
            and (not rpm.name.startswith("kmod-") or rpm.name == kind)
        ]
        listing = "".join(f"      - {entry}\n" for entry in [*artifacts, *branch])
        documents.append(
            "---\ndocument: modulemd\nversion: 2\ndata:\n"
            f"  name: nvidia-driver\n  stream: {stream}\n  version: {20260101000000 + number}\n  arch: x86_64\n"
            f"  summary: Nvidia driver for {stream} branch\n  description: >-\n    The driver.\n"
            "  license:\n    module:\n      - MIT\n  profiles:\n    default:\n      rpms:\n        - nvidia-driver\n"
            f"  artifacts:\n    rpms:\n{listing}...\n"
        )
    return "".join(documents)


def streams() -> dict[str, str]:
    """The newest driver of each stream. NVIDIA's repository has a default stream, which is another branch in time."""
    newest = {driver.partition(".")[0]: driver for driver in DRIVERS}
    named = {f"{branch}-{kind}": driver for branch, driver in newest.items() for kind in ("open", "dkms")}
    return {**named, "open-dkms": DRIVERS[-1], "latest-dkms": DRIVERS[-1]}


# ---------------------------------------------------------------------------------------------------- the system


def os_release(system: str) -> str:
    name, label, version, code = RELEASES[system]
    return (
        f'NAME="{label}"\nVERSION="{version} ({code})"\nID="{name}"\nID_LIKE="rhel centos fedora"\n'
        f'VERSION_ID="{version}"\nPLATFORM_ID="platform:el{system}"\nPRETTY_NAME="{label} {version} ({code})"\n'
    )


def installed(system: str) -> Iterable[Rpm]:
    """What a fresh system has, as far as a package of ours asks for it."""
    name, label, version, code = RELEASES[system]
    release = f"{label} release {version} ({code})\n"
    yield marker(
        f"{name.removesuffix('linux')}-release",
        f"{version}-1.el{system}",
        {"/etc/os-release": os_release(system), "/etc/redhat-release": release, f"/etc/{name}-release": release},
        Provides=(f"system-release = {version}", f"system-release(releasever) = {system}"),
    )
    yield marker("systemd", f"255-1.el{system}")
    yield marker("shadow-utils", f"2:4.9-12.el{system}", Provides=("/usr/sbin/groupadd",))
    yield marker("bash", f"5.1.8-9.el{system}", Provides=("/bin/sh",))
    yield marker("tar", f"2:1.34-7.el{system}")
    yield marker("xz", f"5.2.5-8.el{system}")
    yield from kernel(KERNELS[system][0])


def kernel(version: str) -> Iterable[Rpm]:
    full = f"{version}.x86_64"
    files = {
        f"/boot/vmlinuz-{full}": "",
        f"/lib/modules/{full}/modules.builtin": "",
        f"/lib/modules/{full}/modules.order": "",
        f"/lib/modules/{full}/build": Path(f"/usr/src/kernels/{full}"),
    }
    yield marker("kernel-core", version, files, Provides=SEVERAL)
    yield marker("kernel", version, Requires=(f"kernel-core = {version}",))


def offered(system: str, versionlock: Mapping[str, bytes]) -> Iterable[Rpm]:
    """The system's own repositories in one. The plugin versionlock is Debian's file in a package of EL's name."""
    el, site = f".el{system}", "/usr/lib/python3/dist-packages"
    yield from installed(system)
    for version in KERNELS[system]:
        headers = {f"/usr/src/kernels/{version}.x86_64/Makefile": "# headers would be here\n"}
        yield marker("kernel-devel", version, headers, Provides=SEVERAL)
        both = (f"kernel-core = {version}", f"kernel-devel = {version}")
        yield marker("kernel-devel-matched", version, Requires=both)
        yield marker("kernel-modules-extra", version, Requires=both[:1], Provides=("installonlypkg(kernel-module)",))
    yield from kernel(KERNELS[system][1])
    for name in ("container-selinux", "iptables-nft", "nftables"):
        yield marker(name, f"1-1{el}")
    yield marker("podman-docker", f"5:5.6.0-1{el}", Provides=("docker = 5.6.0",), Conflicts=("docker-ce", "docker-ee"))
    yield marker("python3-requests", f"2.25.1-9{el}", {f"{site}/requests/__init__.py": ""})
    yield marker("python3-pyyaml", f"5.4.1-6{el}", {f"{site}/yaml/__init__.py": ""})
    yield marker("python3-dnf-plugin-versionlock", f"4.3.0-20{el}", dict(versionlock))
    repo = "[epel]\nname=EPEL\nbaseurl=http://$llmops_mirror/epel/$releasever/$basearch\nenabled=1\ngpgcheck=0\n"
    yield marker("epel-release", f"9-10{el}", {"/etc/yum.repos.d/epel.repo": repo})


def epel(system: str) -> Iterable[Rpm]:
    needs = ("(kernel-devel-matched if kernel-core)",)
    yield marker("dkms", f"3.2.2-1.el{system}", {"/usr/sbin/dkms": double("dkms")}, Requires=needs)
