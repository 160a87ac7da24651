# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host's NVIDIA driver is as planned and runs, and what has to happen where it is not.

Three versions have to agree: that of the packages, that of the module on disk for the running kernel, and that of the
module that is loaded; nvidia-smi then talks as the same. Where they do not, the module is reloaded if nothing holds a
GPU, and otherwise the host has to be rebooted, which is never done unasked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError
from ansible_collections.llmops.fleet.plugins.module_utils._nvidia_cuda import (
    COMPUTE_CAPABILITY,
    ENFORCE,
    WARN,
    Finding,
    branch_of,
    cuda_check,
    finding,
    generation,
    image_cuda,
)
from ansible_collections.llmops.fleet.plugins.module_utils._nvidia_plan import (
    OPEN,
    PIN_PATH,
    PROPRIETARY_ONLY,
    SOURCE_NAME,
    UBUNTU_ARCHIVE,
    Host,
    complete,
    digest,
    driver_packages,
    family_of,
    gpus_on_pci,
    half_installed,
    is_driver_package,
    module_name,
    newer_kernels,
    plan_driver,
)

# Modules that may hang on nvidia and are unloaded with it, in the order in which they have to go.
DEPENDENT_MODULES = ("nvidia_drm", "nvidia_modeset", "nvidia_uvm", "nvidia_peermem", "gdrdrv")
CONTAINERS = ("docker", "lxc", "lxc-libvirt", "podman", "systemd-nspawn", "openvz", "rkt", "container-other", "wsl")
LOCKED_DOWN = ("integrity", "confidentiality")
CUDA_REPO_URI = "/compute/cuda/repos/"
FOREIGN_PACKAGES = ("akmod-nvidia", "kmod-nvidia", "xorg-x11-drv-nvidia")

Reasons = list[tuple[str, str]]


def driver_state(
    host: Host, settings: Mapping[str, Any] | None = None, plan: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Installed, on disk, loaded and what nvidia-smi talks as; what has to be done, and why it may not be done.

    action is none, install, reload or reboot; failure is '' or the line to fail with.
    """
    wanted = complete(settings)
    driver = host["nvidia"]["driver"]
    state: dict[str, Any] = {
        "installed": driver["package_version"],
        "on_disk": (driver["module_disk"] or {}).get("version"),
        "loaded": (driver["module_loaded"] or {}).get("version"),
        "nvml": driver["nvml"],
        "users": holders(host),
        "unload": _unload(host),
        "load": [module_name(host), f"{module_name(host)}-uvm"],
        "failure": "",
    }
    lacks = _to_install(host, state, plan)
    stale = _to_activate(host, state, plan)
    if lacks:
        # what runs now is replaced under its users' feet: that it can be activated is made sure before
        activation = _activation(host)
        state.update(action="install", reason=lacks, then=activation[0])
        state["failure"] = _failure(host, wanted, lacks, *activation)
    elif stale:
        action, because = _activation(host)
        state.update(action=action, reason=stale, then=action)
        state["failure"] = _failure(host, wanted, stale, action, because)
    else:
        state.update(action="none", reason="", then="none")
        state["failure"] = _silent(host, state)
    return state


def _to_install(host: Host, state: Mapping[str, Any], plan: Mapping[str, Any] | None) -> str:
    """Why packages have to be installed, '' where not."""
    installed, on_disk, kernel = state["installed"], state["on_disk"], host["kernel"]
    unfinished = half_installed(host, plan)
    if unfinished:
        return f"half installed: {', '.join(unfinished)}"
    if installed is None:
        return "no package of the driver is installed"
    if plan is not None:
        if branch_of(installed) != int(plan["branch"]):
            return f"the installed driver {installed} is not of branch {plan['branch']}"
        if plan["version"] and plan["version"] != installed:
            return f"the installed driver is {installed}, not {plan['version']}"
        kind = (host["nvidia"]["driver"]["module_disk"] or {}).get("kind")
        if kind and kind != plan["kernel_module"] and _impossible(kind, plan):
            return f"the module on disk is the {kind} one, and this GPU needs the {plan['kernel_module']} one"
    if on_disk is None:
        return f"there is no module for kernel {kernel}"
    if on_disk != installed:
        return f"the module on disk for kernel {kernel} is {on_disk}, the packages are {installed}"
    return ""


def _impossible(kind: str, plan: Mapping[str, Any]) -> bool:
    """A kind of module that these GPUs do not run on; one that merely differs from the plan is left alone."""
    if kind == OPEN:
        return any(name in PROPRIETARY_ONLY for name in plan["generations"])
    return "blackwell" in plan["generations"]


def _to_activate(host: Host, state: Mapping[str, Any], plan: Mapping[str, Any] | None) -> str:
    """Why the module on disk has to be loaded, '' where not."""
    loaded = host["nvidia"]["driver"]["module_loaded"]
    if state["loaded"] is None:
        return "nouveau drives the GPU" if host["nvidia"]["nouveau"] else f"module {state['on_disk']} is not loaded"
    if state["loaded"] != state["on_disk"]:
        return f"module {state['loaded']} is loaded and {state['on_disk']} is on disk"
    kind = (host["nvidia"]["driver"]["module_disk"] or {}).get("kind")
    if kind and loaded["kind"] and kind != loaded["kind"]:
        return f"the {loaded['kind']} module is loaded and the {kind} one is on disk"
    return ""


def _silent(host: Host, state: Mapping[str, Any]) -> str:
    """Packages, disk and kernel agree; nvidia-smi has to agree too."""
    if state["nvml"] is not None and state["nvml"] != state["loaded"]:
        return (
            f"nvidia-smi talks as {state['nvml']} and the loaded module is {state['loaded']}: "
            "remove the driver libraries that no package owns (ldconfig -p | grep libnvidia-ml)"
        )
    if state["nvml"] is None and host["gpu_error"]:
        return f"the driver is loaded but {host['gpu_error']}: look at dmesg on the host"
    return ""


def holders(host: Host) -> list[str]:
    """Who holds a GPU, one line each: containers by name, processes by name and pid."""
    names = {entry["id"]: entry["name"] for entry in host["docker"]["containers"]}
    found = []
    for user in host["nvidia"]["users"]:
        process = f"process {user['process'] or '?'} (pid {user['pid']})"
        container = user["container"]
        known = next((name for key, name in names.items() if container and key.startswith(container[:12])), None)
        found.append(f"container {known or container[:12]}, {process}" if container else process)
    return found


def _unload(host: Host) -> list[str]:
    """The loaded modules in the order in which they can be unloaded."""
    loaded = host["nvidia"]["driver"]["module_loaded"]
    hanging = list((loaded or {}).get("holders") or [])
    return [*(name for name in DEPENDENT_MODULES if name in hanging), "nvidia"] if loaded else []


def _activation(host: Host) -> tuple[str, str]:
    """(reload or reboot, why not the former)"""
    if host["nvidia"]["nouveau"] or any(gpu["driver"] == "nouveau" for gpu in gpus_on_pci(host)):
        return "reboot", "nouveau cannot be unloaded while it drives a GPU"
    loaded = host["nvidia"]["driver"]["module_loaded"]
    if loaded is None:
        return "reload", ""
    users = holders(host)
    if users:
        return "reboot", f"{'; '.join(users)} holds the GPU"
    modules = list(loaded["holders"] or [])
    foreign = [name for name in modules if name not in DEPENDENT_MODULES]
    if foreign:
        return "reboot", f"module {foreign[0]} uses the loaded one"
    ours = host["nvidia"]["persistenced"]["active"] or host["nvidia"]["fabricmanager"]["active"]
    # the daemons, which are stopped for a reload, count among the references
    if loaded["refcount"] is None or (loaded["refcount"] > len(modules) and not ours):
        return "reboot", "something that cannot be seen uses the loaded module"
    return "reload", ""


def _failure(host: Host, wanted: Mapping[str, Any], reason: str, action: str, because: str) -> str:
    if action != "reboot" or (wanted["reboot"] and not wanted["local"]):
        return ""
    what = f"a reboot is needed: {reason}" + (f", and {because}" if because else "")
    if wanted["local"]:
        return f"{what}. Ansible runs on this host itself and does not reboot it: do that, then run again"
    if holders(host):
        return f"{what}. Stop that and run again, or set nvidia_driver_reboot: true"
    return f"{what}. Set nvidia_driver_reboot: true, or reboot the host by hand and run again"


def comes_from_outside(host: Host, settings: Mapping[str, Any] | None = None) -> bool:
    """A driver that works and that no package on this host brought: a platform or a machine's image hands it in.

    It is not the role's to replace while its branch will do. A `.run` installation is not meant: it breaks with the
    next kernel.
    """
    wanted = complete(settings)
    driver = host["nvidia"]["driver"]
    loaded = (driver["module_loaded"] or {}).get("version")
    if not loaded or driver["package_version"] or host["nvidia"]["run_file"] or host["gpu_error"] or not host["gpus"]:
        return False
    if half_installed(host):
        return False
    fits = loaded == wanted["version"] if wanted["version"] else branch_of(loaded) >= branch_of(wanted["branch"])
    return driver["nvml"] == loaded and fits


def decide(host: Host, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All that the role needs: drift (one {part, problem} each), plan, state, refused (lines to fail with),
    install, unhold (for an installation), hold and release (for good) (packages)."""
    wanted = complete(settings)
    if wanted["state"] != "present" or not gpus_on_pci(host) or comes_from_outside(host, wanted):
        nothing: dict[str, Any] = {key: [] for key in ("drift", "refused", "install", "unhold", "hold", "release")}
        return {**nothing, "plan": None, "state": None}
    plan = plan_driver(host, wanted)
    state = driver_state(host, wanted, plan)
    release = [] if wanted["hold"] else _to_release(host, plan)
    reasons = [
        *_package_drift(host, plan, state),
        *_hold_drift(host, plan),
        *([("hold", f"still held: {', '.join(release)}")] if release else []),
        *_file_drift(host, plan),
        *_service_drift(host, plan, state),
    ]
    against = _against(host, wanted, plan, state, [part for part, _problem in reasons])
    refused = [f"{entry['problem']}: {entry['remedy']}" for entry in against]
    if state["failure"] and state["action"] == "none":
        reasons.append(("driver", state["failure"]))
    # what runs is not replaced under its users' feet before it is sure that the new one can be activated
    if state["failure"] and (state["action"] == "none" or (state["action"] == "install" and state["loaded"])):
        refused.append(state["failure"])
    return {
        "drift": [{"part": part, "problem": problem} for part, problem in reasons],
        "plan": plan,
        "state": state,
        "refused": refused,
        "install": _install(host, plan, state),
        "unhold": driver_locks(host)
        if family_of(host) == "redhat"
        else sorted(set(host["holds"]) & {*driver_packages(host), *plan["hold"]}),
        "hold": to_hold(host, plan),
        "release": release,
    }


def _install(host: Host, plan: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """Packages as the package manager takes them, with a version where there must be no other."""
    if state["action"] == "install":
        of_the_driver = [*plan["libraries"], *plan["fabricmanager"]]
        return [*plan["modules"], *(_argument(host, name, plan["version"]) for name in of_the_driver)]
    # the driver stays as it is; what is missing beside it has to be of its very version
    lacking = [
        name for name in plan["fabricmanager"] if state["installed"] != host["nvidia"]["fabricmanager"]["version"]
    ]
    if _lacks_persistenced(host, plan):
        lacking += [name for name in plan["libraries"] if name not in host["packages"]]
    return [_argument(host, name, state["installed"]) for name in lacking]


def _lacks_persistenced(host: Host, plan: Mapping[str, Any]) -> bool:
    """Where the driver came by other packages than the plan's, those would not fit beside it."""
    ours = any(name in host["packages"] for name in plan["libraries"])
    return bool(plan["persistenced"] and ours and not host["nvidia"]["persistenced"]["installed"])


def _argument(host: Host, name: str, version: str | None) -> str:
    # the subnet manager of NVLink 5 has versions of its own
    if not version or name == "nvlsm":
        return name
    return f"{name}-{version}" if family_of(host) == "redhat" else f"{name}={version}*"


def _package_drift(host: Host, plan: Mapping[str, Any], state: Mapping[str, Any]) -> Reasons:
    reasons: Reasons = []
    if state["action"] == "install":
        reasons.append(("packages", state["reason"]))
    elif state["action"] in ("reload", "reboot"):
        reasons.append(("module", state["reason"]))
    if plan["fabricmanager"] and state["action"] != "install":
        version = host["nvidia"]["fabricmanager"]["version"]
        if version is None:
            reasons.append(("packages", "the host has NVSwitches and no Fabric Manager"))
        elif version != state["installed"]:
            reasons.append(("packages", f"Fabric Manager is {version}, the driver {state['installed']}"))
    if _lacks_persistenced(host, plan) and state["action"] != "install":
        reasons.append(("packages", "nvidia-persistenced is not installed"))
    return reasons


def to_hold(host: Host, plan: Mapping[str, Any]) -> list[str]:
    """Of what is to be held, what is installed; a driver that came by other packages is held by those."""
    if not plan["hold"]:
        return []
    installed = set(host["packages"])
    ours = [name for name in plan["hold"] if name in installed]
    # these are called the same wherever the driver comes from
    brought = (set(plan["packages"]) & installed) - {"nvidia-persistenced", *plan["modules"]}
    return sorted(set(ours) | (set() if brought else set(driver_packages(host))))


def driver_locks(host: Host) -> list[str]:
    """dnf's version locks on the driver: one lists what it found then. The container toolkit has its own."""
    return [entry for entry in host["holds"] if "nvidia" in entry and "container" not in entry]


def _to_release(host: Host, plan: Mapping[str, Any]) -> list[str]:
    """What the role held when it was to; with our pin in place the holds are our own."""
    if family_of(host) == "redhat":
        return driver_locks(host)
    if PIN_PATH not in ((host["apt"] or {}).get("files") or {}):
        return []
    return sorted(set(host["holds"]) & {*driver_packages(host), *plan["release"]})


def _hold_drift(host: Host, plan: Mapping[str, Any]) -> Reasons:
    if family_of(host) == "redhat":
        lacking = plan["version_lock"] and not driver_locks(host)
        return [("hold", "no version lock on the driver")] if lacking else []
    missing = sorted(set(to_hold(host, plan)) - set(host["holds"]))
    return [("hold", f"not held: {', '.join(missing)}")] if missing else []


def _file_drift(host: Host, plan: Mapping[str, Any]) -> Reasons:
    """Files that differ. What the observation does not show is left to the next change."""

    def seen(path: str) -> Mapping[str, str] | None:
        files = (host["apt"] or {}).get("files") if path.startswith("/etc/apt/") else host["nvidia"].get("files")
        return files if isinstance(files, Mapping) else None

    reasons: Reasons = []
    for path, content in plan["files"].items():
        files = seen(path)
        if files is not None and files.get(path) != digest(content):
            reasons.append(("files", f"{path} is not as wanted"))
    return reasons + [("files", f"{path} is left over") for path in plan["absent_files"] if path in (seen(path) or {})]


def _service_drift(host: Host, plan: Mapping[str, Any], state: Mapping[str, Any]) -> Reasons:
    """Daemons run only where the driver does; before that they would only fail."""
    if state["loaded"] is None:
        return []
    reasons: Reasons = []
    nvidia = host["nvidia"]
    if plan["persistenced"] and nvidia["persistenced"]["installed"]:
        if nvidia["persistenced"]["active"] is False:
            reasons.append(("services", "nvidia-persistenced is not running"))
        elif any(gpu.get("persistence_mode") is False for gpu in host["gpus"]):
            reasons.append(("persistence", "persistence mode is off"))
    if plan["fabricmanager"] and nvidia["fabricmanager"]["active"] is False:
        reasons.append(("services", "Fabric Manager is not running"))
    return reasons


def new_kernels(simulation: str, host: Host) -> list[str]:
    """Kernels that a transaction would bring, out of what `apt-get --simulate` or `dnf --assumeno` prints."""
    debian = re.findall(r"^Inst linux-image-(?:unsigned-)?(\d\S*)", simulation, re.MULTILINE)
    redhat = [
        f"{version}.{arch}"
        for arch, version in re.findall(r"^ +kernel(?:-core)?\s+(\S+) +(?:\d+:)?(\d\S*) ", simulation, re.MULTILINE)
    ]
    known = {host["kernel"], *(host.get("kernels_installed") or [])}
    return sorted(set(debian + redhat) - known)


def other_branches(simulation: str, branch: str) -> list[str]:
    """Packages of a driver that a transaction would bring from another branch than the wanted one.

    A package's name does not tell: transitional ones of a branch that is gone bring its successor.
    """
    debian = re.findall(r"^Inst (\S+) (?:\[[^]]*\] )?\((\S+) ", simulation, re.MULTILINE)
    # what follows a long name stands on the next line
    redhat = re.findall(r"^ +(\S+)\s+(?:x86_64|aarch64|noarch) +(\S+) ", simulation, re.MULTILINE)
    return [
        f"{name} {version}"
        for name, version in debian + redhat
        if is_driver_package(name)
        and re.match(r"\d{3}\.\d", _bare(version))
        and not _bare(version).startswith(f"{branch}.")
    ]


def _bare(version: str) -> str:
    return version.rpartition(":")[2]


def complaint(stdout: str, stderr: str) -> list[str]:
    """What of a package manager's output says why it refuses: at most eight lines.

    apt tells which dependency is unmet on its output, and only that there is one among its errors.
    """
    unmet = re.findall(r"^ +(?:\S+ : )?(?:Pre-?Depends|Depends|Breaks|Conflicts): .+$", stdout, re.MULTILINE)
    # apt goes on below a line, indented; dnf says all after its "Error:"
    errors = re.findall(r"^E: .*(?:\n[ \t]+\S.*)*", stderr, re.MULTILINE)
    errors = errors or re.findall(r"^Error: *([\s\S]*)", stderr, re.MULTILINE)
    warnings = re.findall(r"^W: .*", stderr, re.MULTILINE)
    found = _words([*unmet, *errors, *warnings]) if errors or warnings else _words([stderr])[-3:]
    return (found or _words([stdout])[-3:])[:8]


def _words(texts: Sequence[str]) -> list[str]:
    """Their lines that hold something, each with single blanks."""
    lines = (" ".join(line.split()) for text in texts for line in text.splitlines())
    return [line for line in lines if line]


def refusals(host: Host, settings: Mapping[str, Any], plan: Mapping[str, Any]) -> list[Finding]:
    """What makes the role refuse to change this host's driver."""
    wanted = complete(settings)
    checks = [*_foreign_managers(host), *_foreign_sources(host, plan), *_blocked_packages(host, plan)]
    return [*checks, *(_dkms_problems(host, wanted) if plan["dkms"] else [])]


def _against(
    host: Host, settings: Mapping[str, Any], plan: Mapping[str, Any], state: Mapping[str, Any], parts: Sequence[str]
) -> list[Finding]:
    """What makes the role refuse the change that this host needs."""
    if "packages" in parts:
        return refusals(host, settings, plan)
    # a module that could not be loaded now could not be after a reboot either
    if "module" in parts and state["loaded"] is None:
        signer = (host["nvidia"]["driver"]["module_disk"] or {}).get("signer")
        return _not_enrolled(host, complete(settings)) if plan["dkms"] or not signer else []
    return []


_UNMANAGED = "set nvidia_driver_state: unmanaged to use the driver that is there"


def _foreign_managers(host: Host) -> list[Finding]:
    nvidia = host["nvidia"]
    findings = []
    if host["virtualization"] in CONTAINERS:
        kind = "WSL" if host["virtualization"] == "wsl" else f"a container ({host['virtualization']})"
        findings.append(finding(f"this host is {kind}, whose driver is that of the machine below", _UNMANAGED))
    if nvidia["run_file"]:
        remedy = f"run `nvidia-uninstall` and reboot, or {_UNMANAGED}"
        findings.append(finding("a driver of NVIDIA's .run installer is there, which no package manages", remedy))
    elif nvidia["driver"]["module_loaded"] and not nvidia["driver"]["package_version"] and not half_installed(host):
        loaded = nvidia["driver"]["module_loaded"]["version"]
        remedy = f"reboot the host if its packages were removed, or {_UNMANAGED}"
        findings.append(finding(f"driver {loaded} runs, and no package on this host brought it", remedy))
    if nvidia.get("dgx_os") or any(name.startswith(("dgx-", "nvidia-system-core")) for name in host["packages"]):
        findings.append(finding("DGX OS manages the driver itself", _UNMANAGED))
    if nvidia.get("driver_container"):
        problem = "NVIDIA's GPU operator runs the driver of this host (/run/nvidia/driver)"
        findings.append(finding(problem, _UNMANAGED))
    return findings


def _foreign_sources(host: Host, plan: Mapping[str, Any]) -> list[Finding]:
    findings = []
    for name, source in sorted(((host["apt"] or {}).get("sources") or {}).items()):
        uris = " ".join(source.get("uris") or [])
        if "graphics-drivers/ppa" in uris:
            remedy = f"remove /etc/apt/sources.list.d/{name} and the driver it brought"
            findings.append(
                finding(f"apt source {name} is the graphics-drivers PPA, whose driver is not the same", remedy)
            )
        elif CUDA_REPO_URI in uris and name != SOURCE_NAME:
            problem = f"apt source {name} names NVIDIA's CUDA repository too"
            remedy = f"remove /etc/apt/sources.list.d/{name} (and the package cuda-keyring)"
            if plan["source"] == UBUNTU_ARCHIVE:
                remedy += " or set nvidia_driver_source: cuda-repo"
            findings.append(finding(problem, remedy))
    foreign = [name for name in FOREIGN_PACKAGES if name in host["packages"]]
    if foreign:
        names = " ".join(foreign)
        findings.append(finding(f"{', '.join(foreign)} of another repository is installed", f"dnf remove {names}"))
    return findings


def _blocked_packages(host: Host, plan: Mapping[str, Any]) -> list[Finding]:
    findings = []
    # the transaction finishes what is the driver's, but for a module that could not be built
    finished = [name for name in half_installed(host, plan) if name in plan["packages"] or "dkms" not in name]
    broken = sorted(set(host.get("packages_broken") or []) - set(finished))
    if broken:
        findings.append(
            finding(f"half installed: {', '.join(broken)}", "run `dpkg --configure -a`, then `apt-get -f install`")
        )
    # with our pin in place the holds are our own, and the role moves them
    if PIN_PATH in ((host["apt"] or {}).get("files") or {}) or family_of(host) == "redhat":
        return findings
    drivers = set(driver_packages(host))
    blocking = [
        name
        for name in sorted(set(host["holds"]) & drivers)
        if branch_of(_upstream(host["packages"][name])) != int(plan["branch"]) and not name.startswith("linux-")
    ]
    if blocking:
        remedy = f"run `apt-mark unhold {' '.join(blocking)}`, or set nvidia_driver_branch to what is there"
        findings.append(finding(f"held, and not of branch {plan['branch']}: {', '.join(blocking)}", remedy))
    return findings


def _upstream(version: str) -> str:
    return version.rpartition(":")[2].rpartition("-")[0] or version


def _not_enrolled(host: Host, wanted: Mapping[str, Any]) -> list[Finding]:
    security = host["security"]
    locked = security["secure_boot"] or security["lockdown"] in LOCKED_DOWN
    if not locked or wanted["mok_enrolled"]:
        return []
    why = "Secure Boot is on" if security["secure_boot"] else f"the kernel is locked down ({security['lockdown']})"
    remedy = "enrol DKMS's key (mokutil --import, confirm at the console) and set nvidia_driver_mok_enrolled: true"
    ubuntu = host["os"]["id"] == "ubuntu"
    remedy += ", or take Ubuntu's signed modules (ubuntu-archive without dkms)" if ubuntu else ", or switch it off"
    return [finding(f"{why} and would not load the module that DKMS builds", remedy)]


def _dkms_problems(host: Host, wanted: Mapping[str, Any]) -> list[Finding]:
    findings = _not_enrolled(host, wanted)
    newer = newer_kernels(host)
    if not host["kernel_headers"] and newer:
        kernel = host["kernel"]
        problem = f"the running kernel {kernel} has no headers to build the module with, and {newer[-1]} is installed"
        findings.append(finding(problem, "reboot into the newest kernel, then run again"))
    return findings


def nvidia_findings(
    host: Host, services: Sequence[Mapping[str, Any]], settings: Mapping[str, Any] | None = None
) -> list[Finding]:
    """What preflight has to say of a host's driver, before anything is changed.

    ``settings`` are those of the role, with ``host_name`` and ``image_cuda`` (image -> CUDA version) besides.
    """
    settings = dict(settings or {})
    host_name = str(settings.pop("host_name", "") or "this host")
    images = settings.pop("image_cuda", None) or {}
    if not gpus_on_pci(host) and not host["gpus"]:
        return []
    findings: list[Finding] = []
    driver = host["nvidia"]["driver"]
    will_have = driver["nvml"] or driver["package_version"] or (driver["module_loaded"] or {}).get("version")
    try:
        decision = decide(host, settings)
    except SpecError as error:
        path, _separator, rest = str(error).partition(": ")
        problem, _separator, remedy = rest.partition(": ")
        findings.append(finding(f"{path}: {problem}", remedy or f"correct {path}"))
    else:
        plan = decision["plan"]
        if plan is not None:
            findings += _decision_findings(host, decision, settings)
            if any(reason["part"] == "packages" for reason in decision["drift"]):
                will_have = plan["version"] or plan["branch"]
    capabilities = gpu_capabilities(host)
    for service in services:
        cuda = images.get(service.get("image")) or image_cuda(str(service.get("image") or ""))
        if cuda and service.get("gpus") != 0 and service.get("state", "present") == "present":
            found = cuda_check(service["name"], cuda, host_name, will_have, capabilities)
            findings += [found] if found else []
    return findings


def gpu_capabilities(host: Host) -> list[str]:
    """Compute capabilities of the GPUs: nvidia-smi's word, and before there is a driver what their generation has."""
    said = [gpu.get("compute_capability") for gpu in host["gpus"]]
    if any(said):
        return [str(capability) for capability in said if capability]
    names = [generation(gpu["device"]) for gpu in gpus_on_pci(host)]
    return [COMPUTE_CAPABILITY[name] for name in names if name]


def _decision_findings(host: Host, decision: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Finding]:
    plan, state = decision["plan"], decision["state"]
    findings = _against(host, settings, plan, state, [reason["part"] for reason in decision["drift"]])
    if state["failure"]:
        problem, _separator, remedy = state["failure"].partition(". ")
        if not remedy:
            problem, _separator, remedy = state["failure"].rpartition(": ")
        # a bare host is prepared up to the reboot; one whose driver runs is not touched
        bare = state["action"] == "install" and not state["loaded"]
        findings.append(finding(problem, remedy, WARN if bare else ENFORCE))
    elif state["then"] == "reboot":
        findings.append(
            finding(f"the host will be rebooted: {state['reason']}", "nvidia_driver_reboot allows it", WARN)
        )
    findings += [finding(note, "nothing has to be done", WARN) for note in plan["notes"]]
    return findings
