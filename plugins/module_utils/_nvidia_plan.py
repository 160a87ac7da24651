# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which NVIDIA driver a host gets: source, branch, kind of module, packages, and the files that keep it so."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError, flag
from ansible_collections.llmops.fleet.plugins.module_utils._nvidia_cuda import (
    COMPUTE_CAPABILITY,
    OLDEST_KNOWN,
    branch_of,
    device_number,
    generation,
)

Host = Mapping[str, Any]

# What the role's variables default to; without their prefix nvidia_driver_. `local`: Ansible runs on the host itself.
DEFAULTS: Mapping[str, Any] = {
    "state": "present",
    "source": "auto",
    "branch": "580",
    "version": "",
    "kernel_module": "auto",
    "dkms": False,
    "fabricmanager": "auto",
    "persistenced": True,
    "module_params": {},
    "hold": True,
    "block_unattended_upgrades": True,
    "allow_kernel_upgrade": False,
    "allow_downgrade": False,
    "mok_enrolled": False,
    "reboot": False,
    "local": False,
}
STATES = ("present", "absent", "unmanaged")
UBUNTU_ARCHIVE = "ubuntu-archive"
CUDA_REPO = "cuda-repo"
SOURCES = ("auto", UBUNTU_ARCHIVE, CUDA_REPO)
OPEN = "open"
PROPRIETARY = "proprietary"
KERNEL_MODULES = ("auto", OPEN, PROPRIETARY)

# "NVIDIA Driver Installation Guide", chapter Kernel Modules: the open modules need Turing or newer; Grace and Blackwell
# run on nothing else; release 620 has no proprietary modules. Branch 590 dropped Maxwell, Pascal and Volta.
PROPRIETARY_ONLY = ("maxwell", "pascal", "volta")
LAST_BRANCH_OF_OLD = 580
FIRST_BRANCH_WITHOUT_PROPRIETARY = 620
FIRST_BRANCH: Mapping[str, int] = {"blackwell": 570, "hopper": 525, "ada": 525}

# Directory of the CUDA repository by system; Rocky and Alma take that of RHEL.
CUDA_DISTROS: Mapping[tuple[str, str], str] = {
    ("ubuntu", "22.04"): "ubuntu2204",
    ("ubuntu", "24.04"): "ubuntu2404",
    ("ubuntu", "26.04"): "ubuntu2604",
    ("debian", "12"): "debian12",
    ("debian", "13"): "debian13",
    ("redhat", "9"): "rhel9",
    ("redhat", "10"): "rhel10",
}
CUDA_ARCHITECTURES: Mapping[str, str] = {"x86_64": "x86_64", "aarch64": "sbsa"}
# Keys of the CUDA repository. The one of debian13 is of its own: the older one's binding is SHA-1, which sqv rejects.
CUDA_KEYS: Mapping[str, tuple[str, str]] = {
    "debian13": ("8793F200.pub", "02182E60104FCDC26EAE1B8597A5D4CB8793F200"),
    "deb": ("3bf863cc.pub", "EB693B3035CD5710E231E123A4B469963BF863CC"),
    "rpm": ("D42D0685.pub", "610C7B14E068A878070DA4E99CD0A493D42D0685"),
}
# The kernel a release of Ubuntu came with; a newer one is its hardware enablement kernel.
UBUNTU_KERNELS: Mapping[str, tuple[int, ...]] = {"22.04": (5, 15), "24.04": (6, 8), "26.04": (7, 0)}
HWE_FLAVOURS = ("generic", "lowlatency")

PIN_PATH = "/etc/apt/preferences.d/50-llmops-fleet-nvidia"
UNATTENDED_PATH = "/etc/apt/apt.conf.d/52llmops-fleet-nvidia"
NOUVEAU_PATH = "/etc/modprobe.d/llmops-fleet-nouveau.conf"
PARAMS_PATH = "/etc/modprobe.d/llmops-fleet-nvidia.conf"
PERSISTENCED_PATH = "/etc/systemd/system/nvidia-persistenced.service.d/llmops-fleet.conf"
SOURCE_NAME = "llmops-fleet-nvidia-cuda.sources"
MANAGED = "# Managed by llmops.fleet\n"
PINNED = "*nvidia* cuda-drivers* libcuda1 libcudadebugger1 libnvcuvid1 libnvoptix1"

_DRIVER_PACKAGE = re.compile(
    r"(?:nvidia-(?!container|cuda|docker|cdi|fs)|libnvidia-(?!container)|linux-modules-nvidia-|linux-objects-nvidia-"
    r"|linux-signatures-nvidia-|cuda-drivers|kmod-nvidia|libcuda1$|libcudadebugger1$|libnvcuvid1$|libnvoptix1$)"
)

_TOOLS = ("nvidia-settings", "nvidia-prime", "nvidia-modprobe")


def gpus_on_pci(host: Host) -> list[Mapping[str, Any]]:
    return [entry for entry in host["nvidia"]["pci"] if entry["kind"] == "gpu"]


def family_of(host: Host) -> str:
    system = host["os"]
    return system.get("family") or ("debian" if system["id"] in ("debian", "ubuntu") else "")


def plan_driver(host: Host, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The driver of a host: where it comes from, its packages, and the files that keep it as it is.

    modules are the packages that have the kernel's version, libraries those that have the driver's.
    """
    wanted = complete(settings)
    distro, family = _system(host)
    source = _source(host, wanted["source"])
    version = _version(wanted)
    branch, kept = _branch(host, wanted, version)
    generations, notes = _generations(host)
    kind = _kernel_module(host, wanted["kernel_module"], branch, generations)
    dkms = bool(wanted["dkms"]) or source == CUDA_REPO
    fabric = _needs_fabricmanager(host, wanted["fabricmanager"])
    modules, libraries = _packages(host, source, branch, kind, dkms, bool(wanted["allow_kernel_upgrade"]))
    managers = _fabricmanager_packages(source, family, branch, generations) if fabric else []
    holdable = _hold(host, modules, libraries + managers, dkms or wanted["allow_kernel_upgrade"])
    if distro == "ubuntu2604" and branch == 580 and source == CUDA_REPO:
        notes.append("NVIDIA does not test branch 580 on Ubuntu 26.04")
    return {
        "source": source,
        "branch": str(branch),
        "version": version,
        "kernel_module": kind,
        "generations": generations,
        "notes": [*notes, *([kept] if kept else [])],
        "dkms": dkms,
        "modules": modules,
        "libraries": libraries,
        "fabricmanager": managers,
        "packages": modules + libraries + managers,
        "repository": _repository(
            distro, family, host["arch"], dict.fromkeys(libraries + managers, version or str(branch))
        )
        if source == CUDA_REPO
        else None,
        "module_stream": _module_stream(distro, branch, kind),
        "version_lock": f"*nvidia*{version or branch}*" if family == "redhat" and wanted["hold"] else "",
        "persistenced": bool(wanted["persistenced"]),
        "hold": holdable if wanted["hold"] else [],
        "release": [] if wanted["hold"] else holdable,
        "downgrade": bool(version) or _goes_back(host, branch),
        "files": _files(host, family, branch, version, wanted),
        "absent_files": _absent_files(family, wanted),
    }


def complete(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings with their defaults, each of them checked."""
    wanted = {**DEFAULTS, **(settings or {})}
    for name, default in DEFAULTS.items():
        if isinstance(default, bool):
            wanted[name] = flag(f"nvidia_driver_{name}", wanted[name])
    for name, known in (("state", STATES), ("source", SOURCES), ("kernel_module", KERNEL_MODULES)):
        if wanted[name] not in known:
            raise SpecError(f"nvidia_driver_{name}", f'there is no "{wanted[name]}"; known are {", ".join(known)}')
    if str(wanted["fabricmanager"]).lower() not in ("auto", "true", "false"):
        raise SpecError("nvidia_driver_fabricmanager", "is auto, true or false")
    wanted["branch"] = str(wanted["branch"])
    if not re.fullmatch(r"\d{3}", wanted["branch"]):
        raise SpecError("nvidia_driver_branch", f'"{wanted["branch"]}" is not a branch such as "580"')
    return wanted


def _system(host: Host) -> tuple[str, str]:
    """(directory of the CUDA repository, family)"""
    system = host["os"]
    family = family_of(host)
    key = (
        ("redhat", system["version_id"].partition(".")[0])
        if family == "redhat"
        else (system["id"], system["version_id"])
    )
    distro = CUDA_DISTROS.get(key)
    if distro is None or host["arch"] not in CUDA_ARCHITECTURES:
        name = system["pretty_name"] or system["id"] or "an unknown system"
        raise SpecError("nvidia_driver_state", f"no driver is known for {name} on {host['arch']}: set it to unmanaged")
    return distro, family


def _source(host: Host, source: str) -> str:
    ubuntu = host["os"]["id"] == "ubuntu"
    if source == UBUNTU_ARCHIVE and not ubuntu:
        name = host["os"]["pretty_name"]
        raise SpecError("nvidia_driver_source", f"{UBUNTU_ARCHIVE} does not serve {name}: set {CUDA_REPO} or auto")
    return source if source != "auto" else UBUNTU_ARCHIVE if ubuntu else CUDA_REPO


def _version(wanted: Mapping[str, Any]) -> str:
    version = str(wanted["version"] or "")
    if version and not re.fullmatch(r"\d{3}\.\d+(?:\.\d+)?", version):
        raise SpecError("nvidia_driver_version", f'"{version}" is not a version such as "580.173.02"')
    if version and str(branch_of(version)) != wanted["branch"]:
        branch = wanted["branch"]
        raise SpecError("nvidia_driver_version", f"{version} is not of branch {branch}: set nvidia_driver_branch too")
    return version


def _branch(host: Host, wanted: Mapping[str, Any], version: str) -> tuple[int, str]:
    """The wanted branch, or the newer one that is there and drives these GPUs: (branch, note).

    A host is not taken back to an older driver because a default says so.
    """
    branch = int(wanted["branch"])
    there = branch_of(host["nvidia"]["driver"]["package_version"])
    works = not any(generation(gpu["device"]) in PROPRIETARY_ONLY for gpu in gpus_on_pci(host))
    if there <= branch or wanted["allow_downgrade"] or version or not (works or there <= LAST_BRANCH_OF_OLD):
        return branch, ""
    return there, f"the driver of branch {there} is newer than nvidia_driver_branch {branch} and is kept"


def _goes_back(host: Host, branch: int) -> bool:
    """Whether older packages are wanted than those there: of another branch, or a Fabric Manager of the driver."""

    def key(version: str | None) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", version or "")]

    driver, manager = host["nvidia"]["driver"]["package_version"], host["nvidia"]["fabricmanager"]["version"]
    return max(branch_of(driver), branch_of(manager)) > branch or (bool(driver) and key(manager) > key(driver))


def _generations(host: Host) -> tuple[list[str], list[str]]:
    """(generations of the host's GPUs, notes on those that are not known)"""
    found: list[str] = []
    notes: list[str] = []
    for gpu in gpus_on_pci(host):
        name = generation(gpu["device"])
        if name is not None:
            found.append(name)
        elif 0 <= device_number(gpu["device"]) < OLDEST_KNOWN:
            raise SpecError(
                "nvidia_driver_state",
                f"GPU {gpu['address']} (device {gpu['device']}) is older than Maxwell and no driver of a supported "
                "branch drives it: take the host out or set it to unmanaged",
            )
        else:
            notes.append(f"GPU {gpu['address']} (device {gpu['device']}) is not known here and taken for a new one")
    return sorted(set(found), key=list(COMPUTE_CAPABILITY).index), notes


def _kernel_module(host: Host, setting: str, branch: int, generations: Sequence[str]) -> str:
    old = [name for name in generations if name in PROPRIETARY_ONLY]
    open_only = [
        name for name in generations if name == "blackwell" or (name == "hopper" and host["arch"] == "aarch64")
    ]
    if old and open_only:
        raise SpecError(
            "nvidia_driver_kernel_module",
            f"only the proprietary module drives {_names(old)} and only the open one {_names(open_only)}, and one host "
            "has one driver: take one of them out",
        )
    kind = setting if setting != "auto" else PROPRIETARY if old else OPEN
    if old and kind == OPEN:
        raise SpecError("nvidia_driver_kernel_module", f"only the proprietary module drives {_names(old)}: set auto")
    if open_only and kind == PROPRIETARY:
        raise SpecError("nvidia_driver_kernel_module", f"only the open module drives {_names(open_only)}: set auto")
    if old and branch > LAST_BRANCH_OF_OLD:
        problem = f"branch {branch} does not drive {_names(old)}, the last that does is {LAST_BRANCH_OF_OLD}"
        raise SpecError("nvidia_driver_branch", f'{problem}: set "{LAST_BRANCH_OF_OLD}"')
    if kind == PROPRIETARY and branch >= FIRST_BRANCH_WITHOUT_PROPRIETARY:
        raise SpecError("nvidia_driver_kernel_module", f"branch {branch} has no proprietary module: set auto")
    first = max([FIRST_BRANCH.get(name, 0) for name in generations] or [0])
    if branch < first:
        newest = [name for name in generations if FIRST_BRANCH.get(name, 0) > branch]
        problem = f"branch {branch} does not drive {_names(newest)}, the first that does is {first}"
        raise SpecError("nvidia_driver_branch", f'{problem}: set "580"')
    return kind


def _names(generations: Sequence[str]) -> str:
    return " and ".join(name.capitalize() for name in generations)


def kernel_flavour(kernel: str, release: str) -> str:
    """The flavour in Ubuntu's package names: generic, aws, nvidia-64k, generic-hwe-24.04."""
    match = re.match(r"(\d+)\.(\d+)\.\d+-\d+-(.+)$", kernel)
    if match is None:
        return ""
    flavour = match.group(3)
    newer = (int(match.group(1)), int(match.group(2))) > UBUNTU_KERNELS.get(release, (99, 0))
    return f"{flavour}-hwe-{release}" if newer and flavour in HWE_FLAVOURS else flavour


def _packages(host: Host, source: str, branch: int, kind: str, dkms: bool, follow: bool) -> tuple[list[str], list[str]]:
    """(kernel modules or what builds them, everything else) by name."""
    suffix = "-open" if kind == OPEN else ""
    if source == UBUNTU_ARCHIVE:
        libraries = [
            f"nvidia-headless-no-dkms-{branch}-server{suffix}",
            f"nvidia-utils-{branch}-server",
            f"nvidia-compute-utils-{branch}-server",
        ]
        if dkms:
            return _headers(host), [f"nvidia-dkms-{branch}-server{suffix}", *libraries]
        return _prebuilt(host, branch, suffix, follow), libraries
    if host["os"]["id"] == "ubuntu":
        return _headers(host), ["nvidia-open" if kind == OPEN else "cuda-drivers"]
    # compute-only: none of the X and GL libraries ("Compute-only and Desktop Installation" of the guide)
    if family_of(host) == "redhat":
        module = "kmod-nvidia-open-dkms" if kind == OPEN else "kmod-nvidia-latest-dkms"
    else:
        module = "nvidia-kernel-open-dkms" if kind == OPEN else "nvidia-kernel-dkms"
    return _headers(host), [module, "nvidia-driver-cuda", "nvidia-persistenced"]


def _prebuilt(host: Host, branch: int, suffix: str, follow: bool) -> list[str]:
    """The signed modules of the running kernel, and of a newer one that the next boot takes.

    The package that follows a flavour would bring a newer kernel along.
    """
    flavour = kernel_flavour(host["kernel"], host["os"]["version_id"])
    if not flavour:
        raise SpecError(
            "nvidia_driver_source",
            f"{UBUNTU_ARCHIVE} has no modules for kernel {host['kernel']}: boot one of Ubuntu's kernels, or set "
            f"{CUDA_REPO} or nvidia_driver_dkms: true to build them",
        )
    name = f"linux-modules-nvidia-{branch}-server{suffix}-"
    return [name + flavour] if follow else [name + kernel for kernel in kernels_to_serve(host)]


def _headers(host: Host) -> list[str]:
    """EL's dkms wants kernel-devel-matched, and dnf takes the newest, with its kernel, where no other is asked for.

    Of that package dnf installs one version only.
    """
    kernels = kernels_to_serve(host)
    if family_of(host) != "redhat":
        return [f"linux-headers-{kernel}" for kernel in kernels]
    return [*(f"kernel-devel-{kernel}" for kernel in kernels[:-1]), f"kernel-devel-matched-{kernels[-1]}"]


def kernels_to_serve(host: Host) -> list[str]:
    """The running kernel and the newest one of its flavour, which a reboot would bring."""
    return [str(host["kernel"]), *newer_kernels(host)[-1:]]


def newer_kernels(host: Host) -> list[str]:
    """Installed kernels of the running one's flavour that are newer than it, the newest last."""

    def key(kernel: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", kernel)]

    def flavour(kernel: str) -> str:
        # EL has no flavours: 5.14.0-503.el9.x86_64
        return kernel.rpartition(".el")[2].partition(".")[2] if ".el" in kernel else re.sub(r"^[\d.+-]+", "", kernel)

    running = host["kernel"]
    same = [name for name in host.get("kernels_installed") or [] if flavour(name) == flavour(running)]
    return sorted((name for name in same if key(name) > key(running)), key=key)


def _needs_fabricmanager(host: Host, setting: Any) -> bool:
    """Without NVSwitches it ends with an error; a host with NVSwitches and without it has no CUDA."""
    if str(setting).lower() != "auto":
        return str(setting).lower() == "true"
    if any(entry["kind"] == "nvswitch" for entry in host["nvidia"]["pci"]):
        return True
    # The switches of NVLink 5 are no PCI devices of NVIDIA; there the driver itself says that it waits for the fabric.
    # In a guest it says so too, where the manager runs on the machine below.
    waits = any((gpu.get("fabric") or {}).get("state") in ("In Progress", "Completed") for gpu in host["gpus"])
    return waits and host["virtualization"] == "none"


def _fabricmanager_packages(source: str, family: str, branch: int, generations: Sequence[str]) -> list[str]:
    if source == UBUNTU_ARCHIVE:
        name = f"nvidia-fabricmanager-{branch}"
    elif branch >= 580:
        name = "nvidia-fabricmanager"
    else:
        name = "nvidia-fabric-manager" if family == "redhat" else f"nvidia-fabricmanager-{branch}"
    return [name, *(["nvlsm"] if "blackwell" in generations and source == CUDA_REPO else [])]


def _repository(distro: str, family: str, arch: str, packages: dict[str, str]) -> dict[str, Any]:
    keys = "rpm" if family == "redhat" else distro if distro in CUDA_KEYS else "deb"
    key, fingerprint = CUDA_KEYS[keys]
    return {
        "format": "rpm" if family == "redhat" else "deb",
        "path": f"{distro}/{CUDA_ARCHITECTURES[arch]}",
        "key": key,
        "fingerprints": [fingerprint],
        # the subnet manager of NVLink 5 has versions of its own
        "packages": {name: "" if name == "nvlsm" else wanted for name, wanted in packages.items()},
        "architecture": arch if family == "redhat" else {"x86_64": "amd64", "aarch64": "arm64"}[arch],
    }


def _module_stream(distro: str, branch: int, kind: str) -> str:
    """EL 9 separates branches by module stream; EL 10 has no streams and is held by a version lock alone."""
    return f"nvidia-driver:{branch}-{'open' if kind == OPEN else 'dkms'}" if distro == "rhel9" else ""


def is_driver_package(name: str) -> bool:
    """Whether a package has the driver's version: modules have the kernel's, and some tools one of their own."""
    return bool(_DRIVER_PACKAGE.match(name)) and not name.startswith(("linux-", *_TOOLS))


def driver_packages(host: Host) -> list[str]:
    """What is installed of any driver, whoever brought it."""
    return sorted(name for name in host["packages"] if _DRIVER_PACKAGE.match(name))


def half_installed(host: Host, plan: Mapping[str, Any] | None = None) -> list[str]:
    """What a run that was cut off left of a driver, or of the plan's packages: unpacked and not configured."""
    planned = plan["packages"] if plan else []
    return sorted(name for name in host.get("packages_broken") or [] if _DRIVER_PACKAGE.match(name) or name in planned)


def _hold(host: Host, modules: Sequence[str], others: Sequence[str], free_kernel: bool) -> list[str]:
    """Packages of the driver and, with modules of certain kernels, what would bring a kernel without any."""
    if free_kernel:
        return [*(name for name in modules if "nvidia" in name), *others]
    kernels = sorted(name for name in host["packages"] if re.match(r"linux-(?:image|headers)-(?!unsigned)[a-z]", name))
    return [*modules, *others, *kernels]


def module_name(host: Host) -> str:
    """What modprobe knows the module as: Debian's own packages rename its file."""
    return str((host["nvidia"]["driver"]["module_disk"] or {}).get("name") or "nvidia")


def _files(host: Host, family: str, branch: int, version: str, wanted: Mapping[str, Any]) -> dict[str, str]:
    files = {NOUVEAU_PATH: f"{MANAGED}blacklist nouveau\noptions nouveau modeset=0\n"}
    if wanted["module_params"]:
        params = " ".join(f"{name}={value}" for name, value in sorted(wanted["module_params"].items()))
        # modprobe looks options up by the file's name; the one that is there may be about to be replaced
        names = dict.fromkeys(["nvidia", module_name(host)])
        files[PARAMS_PATH] = MANAGED + "".join(f"options {name} {params}\n" for name in names)
    if wanted["persistenced"]:
        # The systems' units say --no-persistence-mode and run as users of different names; nvidia-smi asks the daemon.
        files[PERSISTENCED_PATH] = f"{MANAGED}[Service]\nExecStartPost=-/usr/bin/nvidia-smi -pm 1\n"
    if family == "debian":
        files[PIN_PATH] = pin(branch, version)
        if wanted["block_unattended_upgrades"]:
            files[UNATTENDED_PATH] = unattended_block(
                ("nvidia-", "libnvidia-", "linux-modules-nvidia-", "cuda-drivers")
            )
    return files


def _absent_files(family: str, wanted: Mapping[str, Any]) -> list[str]:
    """What an earlier run wrote and the settings want no longer."""
    files = [] if wanted["module_params"] else [PARAMS_PATH]
    return files + ([UNATTENDED_PATH] if family == "debian" and not wanted["block_unattended_upgrades"] else [])


def pin(branch: int, version: str = "") -> str:
    """apt preferences that keep the driver in its branch: 1000 wins over any newer version, also for what is new."""
    exact = f"{version}*" if version else f"{branch}.*"
    return f"{MANAGED}Package: {PINNED}\nPin: version {exact}\nPin-Priority: 1000\n"


def unattended_block(prefixes: Sequence[str]) -> str:
    entries = "".join(f'  "{prefix}";\n' for prefix in prefixes)
    return f"// Managed by llmops.fleet\nUnattended-Upgrade::Package-Blacklist {{\n{entries}}};\n"


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
