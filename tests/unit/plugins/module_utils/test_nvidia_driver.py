# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions over hosts that are constructed, see constructed_hosts.py."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.llmops.fleet.plugins.module_utils import _nvidia_driver, _nvidia_plan
from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError
from constructed_hosts import CONTAINER, DEVICES, SYSTEMS, bare, merged, with_driver
from hypothesis import given
from hypothesis import strategies as st

OLD = ("maxwell", "pascal", "volta")
ARCHIVE = "ubuntu-archive"
CUDA = "cuda-repo"


def plan(host, **settings):
    return _nvidia_plan.plan_driver(host, settings)


# -- the plan ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "source", "kind", "modules", "libraries"),
    [
        (
            "ubuntu-24.04",
            ARCHIVE,
            "open",
            ["linux-modules-nvidia-580-server-open-6.8.0-90-generic"],
            ["nvidia-headless-no-dkms-580-server-open", "nvidia-utils-580-server", "nvidia-compute-utils-580-server"],
        ),
        (
            "ubuntu-22.04",
            ARCHIVE,
            "proprietary",
            ["linux-modules-nvidia-580-server-5.15.0-160-generic"],
            ["nvidia-headless-no-dkms-580-server", "nvidia-utils-580-server", "nvidia-compute-utils-580-server"],
        ),
        ("ubuntu-26.04", CUDA, "open", ["linux-headers-7.0.0-12-generic"], ["nvidia-open"]),
        ("ubuntu-22.04", CUDA, "proprietary", ["linux-headers-5.15.0-160-generic"], ["cuda-drivers"]),
        (
            "debian-12",
            CUDA,
            "open",
            ["linux-headers-6.1.0-50-amd64"],
            ["nvidia-kernel-open-dkms", "nvidia-driver-cuda", "nvidia-persistenced"],
        ),
        (
            "debian-13",
            CUDA,
            "proprietary",
            ["linux-headers-6.12.48+deb13-amd64"],
            ["nvidia-kernel-dkms", "nvidia-driver-cuda", "nvidia-persistenced"],
        ),
        (
            "rocky-9",
            CUDA,
            "open",
            ["kernel-devel-matched-5.14.0-570.12.1.el9_6.x86_64"],
            ["kmod-nvidia-open-dkms", "nvidia-driver-cuda", "nvidia-persistenced"],
        ),
        (
            "almalinux-10",
            CUDA,
            "proprietary",
            ["kernel-devel-matched-6.12.0-55.9.1.el10_0.x86_64"],
            ["kmod-nvidia-latest-dkms", "nvidia-driver-cuda", "nvidia-persistenced"],
        ),
    ],
)
def test_packages_by_system_source_and_kind(system, source, kind, modules, libraries):
    planned = plan(bare(system, "ampere"), source=source, kernel_module=kind)
    assert (planned["modules"], planned["libraries"]) == (modules, libraries)


@pytest.mark.parametrize(("system", "generation"), list(itertools.product(SYSTEMS, DEVICES)))
def test_every_system_has_a_driver_for_every_generation(system, generation):
    planned = plan(bare(system, generation))
    assert planned["source"] == (ARCHIVE if system.startswith("ubuntu") else CUDA)
    assert planned["kernel_module"] == ("proprietary" if generation in OLD else "open")
    assert planned["branch"] == "580"
    assert planned["generations"] == [generation]
    assert planned["notes"] == []
    assert planned["dkms"] == (planned["source"] == CUDA)
    assert planned["packages"] and planned["fabricmanager"] == []
    assert all("open" not in name for name in planned["packages"]) == (generation in OLD)


@pytest.mark.parametrize(
    ("system", "arch", "path", "key", "architecture"),
    [
        ("ubuntu-22.04", "x86_64", "ubuntu2204/x86_64", "3bf863cc.pub", "amd64"),
        ("ubuntu-24.04", "aarch64", "ubuntu2404/sbsa", "3bf863cc.pub", "arm64"),
        ("ubuntu-26.04", "x86_64", "ubuntu2604/x86_64", "3bf863cc.pub", "amd64"),
        ("debian-12", "x86_64", "debian12/x86_64", "3bf863cc.pub", "amd64"),
        ("debian-13", "x86_64", "debian13/x86_64", "8793F200.pub", "amd64"),
        ("rocky-9", "x86_64", "rhel9/x86_64", "D42D0685.pub", "x86_64"),
        ("almalinux-10", "aarch64", "rhel10/sbsa", "D42D0685.pub", "aarch64"),
    ],
)
def test_directory_of_the_cuda_repository(system, arch, path, key, architecture):
    repository = plan(bare(system, arch=arch), source=CUDA)["repository"]
    assert (repository["path"], repository["key"], repository["architecture"]) == (path, key, architecture)
    assert repository["fingerprints"][0].endswith(key.partition(".")[0].upper())
    assert set(repository["packages"].values()) == {"580"}
    assert not any(name.startswith(("linux-", "kernel-")) for name in repository["packages"])


def test_ubuntus_archive_needs_no_repository_of_ours():
    assert plan(bare())["repository"] is None


@pytest.mark.parametrize(
    ("kernel", "release", "expected"),
    [
        ("6.8.0-90-generic", "24.04", "generic"),
        ("6.14.0-33-generic", "24.04", "generic-hwe-24.04"),
        ("6.8.0-90-generic", "22.04", "generic-hwe-22.04"),
        ("6.8.0-1021-aws", "24.04", "aws"),
        ("6.14.0-1012-azure", "24.04", "azure"),
        ("6.8.0-1030-nvidia-64k", "24.04", "nvidia-64k"),
        ("6.8.0-90-lowlatency", "24.04", "lowlatency"),
        ("6.18.44-fc-v657-gpu", "24.04", ""),
        ("6.6.87.2-microsoft-standard-WSL2", "24.04", ""),
        ("", "24.04", ""),
    ],
)
def test_flavour_of_a_kernel(kernel, release, expected):
    assert _nvidia_plan.kernel_flavour(kernel, release) == expected


def test_a_package_that_follows_the_kernel_is_taken_only_if_allowed():
    host = bare(packages={"linux-image-generic": "6.8.0-90.91", "linux-image-6.8.0-90-generic": "6.8.0-90.91"})
    allowed = plan(host, allow_kernel_upgrade=True)
    assert allowed["modules"] == ["linux-modules-nvidia-580-server-open-generic"]
    assert "linux-image-generic" not in allowed["hold"]
    assert allowed["hold"][0] == "linux-modules-nvidia-580-server-open-generic"
    assert plan(host)["modules"] == ["linux-modules-nvidia-580-server-open-6.8.0-90-generic"]
    assert "linux-image-generic" in plan(host)["hold"]
    assert "linux-image-6.8.0-90-generic" not in plan(host)["hold"]


def test_modules_for_the_kernel_that_a_reboot_would_bring_too():
    kernels = ["6.8.0-90-generic", "6.8.0-100-generic", "6.8.0-9-generic", "6.8.0-1021-aws"]
    assert plan(bare(kernels_installed=kernels))["modules"] == [
        "linux-modules-nvidia-580-server-open-6.8.0-90-generic",
        "linux-modules-nvidia-580-server-open-6.8.0-100-generic",
    ]
    rocky = ["5.14.0-570.12.1.el9_6.x86_64", "5.14.0-611.5.1.el9_7.x86_64", "5.14.0-503.14.1.el9_5.x86_64"]
    assert plan(bare("rocky-9", kernels_installed=rocky))["modules"] == [
        "kernel-devel-5.14.0-570.12.1.el9_6.x86_64",
        "kernel-devel-matched-5.14.0-611.5.1.el9_7.x86_64",
    ]


def test_dkms_on_ubuntus_archive_builds_for_the_running_kernel():
    planned = plan(bare(), dkms=True)
    assert planned["modules"] == ["linux-headers-6.8.0-90-generic"]
    assert planned["libraries"][0] == "nvidia-dkms-580-server-open"


@pytest.mark.parametrize(
    ("system", "kind", "stream", "lock"),
    [
        ("rocky-9", "open", "nvidia-driver:580-open", "*nvidia*580*"),
        ("rocky-9", "proprietary", "nvidia-driver:580-dkms", "*nvidia*580*"),
        ("almalinux-10", "open", "", "*nvidia*580*"),
        ("debian-12", "open", "", ""),
    ],
)
def test_how_el_keeps_its_branch(system, kind, stream, lock):
    planned = plan(bare(system, "ampere"), kernel_module=kind)
    assert (planned["module_stream"], planned["version_lock"]) == (stream, lock)


SWITCH = {"address": "0000:80:00.0", "device": "0x22a3", "class": "0x068000", "kind": "nvswitch", "driver": None}


@pytest.mark.parametrize(
    ("system", "source", "branch", "expected"),
    [
        ("ubuntu-24.04", ARCHIVE, "580", ["nvidia-fabricmanager-580"]),
        ("ubuntu-24.04", ARCHIVE, "570", ["nvidia-fabricmanager-570"]),
        ("debian-12", CUDA, "580", ["nvidia-fabricmanager"]),
        ("debian-12", CUDA, "570", ["nvidia-fabricmanager-570"]),
        ("rocky-9", CUDA, "595", ["nvidia-fabricmanager"]),
        ("rocky-9", CUDA, "570", ["nvidia-fabric-manager"]),
    ],
)
def test_fabric_manager_only_beside_nvswitches(system, source, branch, expected):
    host = bare(system)
    assert plan(host, source=source, branch=branch)["fabricmanager"] == []
    host["nvidia"]["pci"].append(SWITCH)
    assert plan(host, source=source, branch=branch)["fabricmanager"] == expected
    assert plan(host, source=source, branch=branch, fabricmanager=False)["fabricmanager"] == []


def test_fabric_manager_where_the_driver_waits_for_a_fabric():
    host = with_driver("debian-12", generation="blackwell")
    host["gpus"][0]["fabric"] = {"state": "In Progress", "status": "N/A"}
    planned = plan(host)
    assert planned["fabricmanager"] == ["nvidia-fabricmanager", "nvlsm"]
    assert planned["repository"]["packages"]["nvlsm"] == ""
    # in a guest the manager is that of the machine below
    host["virtualization"] = "kvm"
    assert plan(host)["fabricmanager"] == []
    assert plan(host, fabricmanager=True)["fabricmanager"] != []


def test_an_exact_version_goes_to_what_has_the_drivers_version():
    host = bare("debian-12")
    decision = _nvidia_driver.decide(host, {"version": "580.173.02"})
    assert decision["install"] == [
        "linux-headers-6.1.0-50-amd64",
        "nvidia-kernel-open-dkms=580.173.02*",
        "nvidia-driver-cuda=580.173.02*",
        "nvidia-persistenced=580.173.02*",
    ]
    assert "Pin: version 580.173.02*\n" in decision["plan"]["files"][_nvidia_plan.PIN_PATH]
    redhat = _nvidia_driver.decide(bare("rocky-9"), {"version": "580.173.02"})
    assert "nvidia-driver-cuda-580.173.02" in redhat["install"]
    assert redhat["plan"]["version_lock"] == "*nvidia*580.173.02*"


def test_files_that_keep_the_driver_as_it_is():
    files = plan(bare(), module_params={"NVreg_B": 1, "NVreg_A": "x"})["files"]
    assert files[_nvidia_plan.PIN_PATH].splitlines()[1:] == [
        "Package: *nvidia* cuda-drivers* libcuda1 libcudadebugger1 libnvcuvid1 libnvoptix1",
        "Pin: version 580.*",
        "Pin-Priority: 1000",
    ]
    assert files[_nvidia_plan.PARAMS_PATH].splitlines()[1] == "options nvidia NVreg_A=x NVreg_B=1"
    assert '  "nvidia-";\n' in files[_nvidia_plan.UNATTENDED_PATH]
    assert _nvidia_plan.UNATTENDED_PATH not in plan(bare(), block_unattended_upgrades=False)["files"]
    assert _nvidia_plan.PERSISTENCED_PATH not in plan(bare(), persistenced=False)["files"]
    assert plan(bare())["absent_files"] == [_nvidia_plan.PARAMS_PATH]
    assert not any(path.startswith("/etc/apt") for path in plan(bare("rocky-9"))["files"])


# -- impossible pairs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "settings", "message"),
    [
        (bare("ubuntu-24.04", "volta"), {"branch": "595"},
         'nvidia_driver_branch: branch 595 does not drive Volta, the last that does is 580: set "580"'),
        (bare("debian-12", "pascal", "maxwell"), {"branch": "590"}, "branch 590 does not drive Maxwell and Pascal"),
        (bare("ubuntu-24.04", "volta"), {"kernel_module": "open"},
         "nvidia_driver_kernel_module: only the proprietary module drives Volta: set auto"),
        (bare("ubuntu-24.04", "blackwell"), {"kernel_module": "proprietary"},
         "nvidia_driver_kernel_module: only the open module drives Blackwell: set auto"),
        (bare("ubuntu-24.04", "hopper", arch="aarch64"), {"kernel_module": "proprietary"},
         "nvidia_driver_kernel_module: only the open module drives Hopper"),
        (bare("ubuntu-24.04", "volta", "blackwell"), {}, "one host has one driver: take one of them out"),
        (bare("ubuntu-24.04", "blackwell"), {"branch": "550"}, 'the first that does is 570: set "580"'),
        (bare("debian-12", "ampere"), {"branch": "620", "kernel_module": "proprietary"}, "has no proprietary module"),
        (bare("debian-12"), {"source": ARCHIVE}, "nvidia_driver_source: ubuntu-archive does not serve debian-12"),
        (bare(), {"source": "ppa"}, 'source: there is no "ppa"; known are auto, ubuntu-archive, cuda-repo'),
        (bare(), {"kernel_module": "closed"}, 'nvidia_driver_kernel_module: there is no "closed"'),
        (bare(), {"state": "gone"}, 'nvidia_driver_state: there is no "gone"; known are present, absent, unmanaged'),
        (bare(), {"branch": "latest"}, 'nvidia_driver_branch: "latest" is not a branch'),
        (bare(), {"fabricmanager": "maybe"}, "nvidia_driver_fabricmanager: is auto, true or false"),
        (bare(), {"version": "595.71.05"}, "nvidia_driver_version: 595.71.05 is not of branch 580"),
        (bare(), {"version": "580"}, 'nvidia_driver_version: "580" is not a version'),
        (bare(arch="ppc64le"), {}, "nvidia_driver_state: no driver is known for ubuntu-24.04 on ppc64le"),
        (bare(kernel="6.6.0-custom"), {}, "nvidia_driver_source: ubuntu-archive has no modules for kernel"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_what_to_do(host, settings, message):
    with pytest.raises(SpecError) as error:
        plan(host, **settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unsupported_system_and_a_gpu_that_is_too_old():
    host = bare(os={"version_id": "20.04", "pretty_name": "Ubuntu 20.04"})
    with pytest.raises(SpecError, match=r"no driver is known for Ubuntu 20\.04"):
        plan(host)
    host = bare()
    host["nvidia"]["pci"][0]["device"] = "0x102d"
    with pytest.raises(SpecError, match="is older than Maxwell"):
        plan(host)


def test_an_unknown_gpu_is_taken_for_a_new_one_and_noted():
    host = bare()
    host["nvidia"]["pci"][0]["device"] = "0x3021"
    planned = plan(host)
    assert planned["kernel_module"] == "open"
    assert planned["notes"] == ["GPU 0000:00:00.0 (device 0x3021) is not known here and taken for a new one"]


def test_the_proprietary_module_serves_old_and_middle_generations_together():
    planned = plan(bare("ubuntu-24.04", "ampere", "volta"))
    assert (planned["kernel_module"], planned["generations"]) == ("proprietary", ["volta", "ampere"])


@pytest.mark.parametrize(
    ("installed", "generation", "settings", "branch", "kept"),
    [
        ("595.71.05", "hopper", {}, "595", True),
        ("595.71.05", "hopper", {"allow_downgrade": True}, "580", False),
        ("595.71.05", "hopper", {"version": "580.173.02"}, "580", False),
        # it does not drive a V100, so there is nothing to keep
        ("595.71.05", "volta", {}, "580", False),
        ("550.163.01", "hopper", {}, "580", False),
        ("580.159.04", "hopper", {}, "580", False),
        ("580.159.04", "volta", {"branch": "570"}, "580", True),
    ],
)
def test_a_default_takes_nobody_back_to_an_older_branch(installed, generation, settings, branch, kept):
    planned = plan(with_driver(version=installed, generation=generation), **settings)
    assert planned["branch"] == branch
    assert any("is kept" in note for note in planned["notes"]) is kept
    assert planned["downgrade"] is (int(installed[:3]) > int(branch) or "version" in settings)


# -- three versions ----------------------------------------------------------------------------------------------------


def state(host, **settings):
    return _nvidia_driver.driver_state(host, settings, plan(host, **settings))


def driver(**changes):
    return {"nvidia": {"driver": changes}}


def versions(package, disk, loaded, nvml, kinds=("open", "open")):
    host = with_driver()
    section = host["nvidia"]["driver"]
    section["package_version"], section["nvml"] = package, nvml
    for key, version, kind in zip(("module_disk", "module_loaded"), (disk, loaded), kinds):
        section[key] = {**section[key], "version": version, "kind": kind} if version else None
    host["gpu_error"] = None if nvml else "nvidia-smi exits with 9: no devices"
    return host


A, B = "580.159.04", "580.173.02"


@pytest.mark.parametrize(
    ("package", "disk", "loaded", "nvml", "action", "reason"),
    [
        (A, A, A, A, "none", ""),
        (None, None, None, None, "install", "no package of the driver is installed"),
        (None, A, A, A, "install", "no package of the driver is installed"),
        (A, None, None, None, "install", "there is no module for kernel 6.8.0-90-generic"),
        (A, None, A, A, "install", "there is no module for kernel"),
        (B, A, A, A, "install", f"the module on disk for kernel 6.8.0-90-generic is {A}, the packages are {B}"),
        (B, B, A, None, "reload", f"module {A} is loaded and {B} is on disk"),
        (B, B, A, A, "reload", f"module {A} is loaded and {B} is on disk"),
        (A, A, None, None, "reload", f"module {A} is not loaded"),
        ("550.163.01", "550.163.01", "550.163.01", "550.163.01", "install", "is not of branch 580"),
    ],
)
def test_three_way_check(package, disk, loaded, nvml, action, reason):
    found = state(versions(package, disk, loaded, nvml))
    assert (found["action"], found["failure"]) == (action, "")
    assert reason in found["reason"]
    assert (found["installed"], found["on_disk"], found["loaded"], found["nvml"]) == (package, disk, loaded, nvml)


def test_the_kind_of_the_module_counts_only_where_the_gpu_minds():
    mixed = state(versions(A, A, A, A, kinds=("open", "proprietary")))
    assert (mixed["action"], mixed["reason"]) == (
        "reload",
        "the proprietary module is loaded and the open one is on disk",
    )
    assert state(versions(A, A, A, A, kinds=("proprietary", "proprietary")))["action"] == "none"
    volta = with_driver(generation="volta")
    for key in ("module_disk", "module_loaded"):
        volta["nvidia"]["driver"][key]["kind"] = "open"
    assert "this GPU needs the proprietary one" in state(volta)["reason"]


def test_libraries_that_no_package_brought():
    found = state(versions(A, A, A, B))
    assert found["action"] == "none"
    assert found["failure"].startswith(f"nvidia-smi talks as {B} and the loaded module is {A}: remove")


def test_a_driver_that_is_loaded_and_does_not_answer():
    assert "look at dmesg" in state(versions(A, A, A, None))["failure"]


def outdated(**changes):
    """The packages were upgraded under a module that is loaded."""
    return merged(versions(B, B, A, None), changes)


USERS = [
    {"pid": 4711, "process": "VLLM::EngineCor", "container": CONTAINER},
    {"pid": 77, "process": "Xorg", "container": None},
]
NAMED = {"docker": {"containers": [{"id": CONTAINER, "name": "llmops-chat"}]}}


def test_a_gpu_that_is_held_is_never_taken_away():
    found = state(outdated(nvidia={"users": USERS}, **NAMED))
    assert found["action"] == "reboot"
    assert found["users"] == ["container llmops-chat, process VLLM::EngineCor (pid 4711)", "process Xorg (pid 77)"]
    assert found["failure"] == (
        f"a reboot is needed: module {A} is loaded and {B} is on disk, and container llmops-chat, process "
        "VLLM::EngineCor (pid 4711); process Xorg (pid 77) holds the GPU. Stop that and run again, or set "
        "nvidia_driver_reboot: true"
    )


def test_a_container_without_a_name_is_named_by_its_id():
    assert state(outdated(nvidia={"users": USERS[:1]}))["users"][0].startswith("container abababababab, process VLLM")


@pytest.mark.parametrize(
    ("nvidia", "action"),
    [
        ({"users": []}, "reload"),
        ({"driver": {"module_loaded": {"refcount": 3}}}, "reboot"),
        ({"driver": {"module_loaded": {"refcount": None}}}, "reboot"),
        # the daemons are stopped first, and count as long as they run
        ({"driver": {"module_loaded": {"refcount": 9}}, "persistenced": {"active": True}}, "reload"),
        ({"driver": {"module_loaded": {"holders": ["nvidia_uvm", "gdrdrv"]}}}, "reload"),
        ({"driver": {"module_loaded": {"holders": ["nvidia_uvm", "nvidia_vgpu_vfio"]}}}, "reboot"),
        ({"nouveau": True}, "reboot"),
    ],
)
def test_reload_only_what_nothing_holds(nvidia, action):
    host = outdated(nvidia={"persistenced": {"active": False}, "fabricmanager": {"active": False}})
    found = state(merged(host, {"nvidia": nvidia}))
    assert found["action"] == action
    assert bool(found["failure"]) is (action == "reboot")


def test_modules_are_unloaded_in_the_order_in_which_they_hang_together():
    holders = ["nvidia_uvm", "nvidia_modeset", "nvidia_drm"]
    host = outdated(nvidia={"driver": {"module_loaded": {"holders": holders}}})
    assert state(host)["unload"] == ["nvidia_drm", "nvidia_modeset", "nvidia_uvm", "nvidia"]
    assert state(bare())["unload"] == []


@pytest.mark.parametrize(
    ("settings", "failure"),
    [
        ({}, "Set nvidia_driver_reboot: true, or reboot the host by hand and run again"),
        ({"reboot": True}, ""),
        ({"local": True}, "Ansible runs on this host itself and does not reboot it"),
        ({"reboot": True, "local": True}, "Ansible runs on this host itself and does not reboot it"),
    ],
)
def test_a_reboot_is_never_unasked_and_never_of_ansibles_own_host(settings, failure):
    found = state(bare(nvidia={"nouveau": True}, packages={}), **settings)
    assert (found["action"], found["then"]) == ("install", "reboot")
    assert failure in found["failure"]
    assert bool(found["failure"]) is bool(failure)


def test_a_bare_host_needs_no_reboot_without_nouveau():
    assert (state(bare())["then"], state(bare())["failure"]) == ("reload", "")


# -- drift -------------------------------------------------------------------------------------------------------------


def decide(host, **settings):
    return _nvidia_driver.decide(host, settings)


def parts(host, **settings):
    return [reason["part"] for reason in decide(host, **settings)["drift"]]


def converged(system="ubuntu-24.04", **changes):
    host = with_driver(system)
    planned = plan(host)
    host["packages"] = {name: "580.159.04-0ubuntu0.24.04.1" for name in planned["packages"]}
    host["packages"]["linux-image-generic"] = "6.8.0-90.91"
    planned = plan(host)
    host["holds"] = ["nvidia-driver-3:580.159.04-1.el9.*"] if planned["version_lock"] else planned["hold"]
    digests = {path: _nvidia_plan.digest(content) for path, content in planned["files"].items()}
    host["apt"]["files"] = {path: value for path, value in digests.items() if path.startswith("/etc/apt/")}
    host["nvidia"]["files"] = {path: value for path, value in digests.items() if not path.startswith("/etc/apt/")}
    return merged(host, changes)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_converged_host_has_nothing_to_do(system):
    decision = decide(converged(system))
    assert (decision["drift"], decision["refused"]) == ([], [])


@pytest.mark.parametrize("host", [bare(nvidia={"pci": []}), bare(nvidia={"pci": [SWITCH]})])
def test_a_host_without_a_gpu_is_skipped(host):
    assert decide(host)["drift"] == []
    assert decide(host)["plan"] is None


@pytest.mark.parametrize("wanted", ["unmanaged", "absent"])
def test_a_driver_that_is_not_ours_to_manage(wanted):
    assert decide(bare(), state=wanted)["drift"] == []


def test_a_bare_host_lacks_packages_and_files():
    decision = decide(bare())
    assert set(parts(bare())) == {"packages", "files"}
    assert decide(bare())["drift"][0]["problem"] == "no package of the driver is installed"
    assert decision["install"] == decision["plan"]["packages"]
    assert decision["hold"] == []


@pytest.mark.parametrize(
    ("changes", "settings", "expected"),
    [
        ({"holds": []}, {}, ["hold"]),
        ({"holds": []}, {"hold": False}, []),
        ({"apt": {"files": {_nvidia_plan.PIN_PATH: "1", _nvidia_plan.UNATTENDED_PATH: "1"}}}, {}, ["files", "files"]),
        ({"apt": {"files": None}}, {}, []),
        ({"nvidia": {"files": None}}, {}, []),
        ({"nvidia": {"files": {_nvidia_plan.PARAMS_PATH: "1"}}}, {}, ["files"]),
        ({}, {"module_params": {"NVreg_A": 1}}, ["files"]),
        ({"nvidia": {"persistenced": {"active": False}}}, {}, ["services"]),
        ({"nvidia": {"persistenced": {"active": None}}}, {}, []),
        ({"nvidia": {"persistenced": {"installed": False, "active": None}}}, {}, ["packages"]),
        ({"nvidia": {"driver": {"module_loaded": None, "nvml": None}}}, {}, ["module"]),
        ({"nvidia": {"driver": {"nvml": "580.173.02"}}}, {}, ["driver"]),
        ({}, {"branch": "595"}, ["packages", "files"]),
    ],
)
def test_each_thing_that_is_off(changes, settings, expected):
    assert parts(converged(**changes), **settings) == expected


@pytest.mark.parametrize(
    ("broken", "refused"),
    [
        (["nvidia-utils-580-server"], []),
        (["libnvidia-compute-580-server", "nvidia-headless-no-dkms-580-server-open"], []),
        (["linux-modules-nvidia-580-server-open-6.8.0-90-generic"], []),
        (
            ["nvidia-utils-580-server", "vim"],
            ["half installed: vim: run `dpkg --configure -a`, then `apt-get -f install`"],
        ),
        # its module could not be built
        (
            ["nvidia-dkms-550"],
            ["half installed: nvidia-dkms-550: run `dpkg --configure -a`, then `apt-get -f install`"],
        ),
    ],
)
@pytest.mark.parametrize("runs", [False, True])
def test_an_installation_that_was_cut_off_is_finished(broken, refused, runs):
    host = converged(packages_broken=broken)
    for name in broken:
        host["packages"].pop(name, None)
    host["nvidia"]["driver"]["package_version"] = None
    if not runs:
        host["nvidia"]["driver"].update(module_loaded=None, nvml=None)
        host["gpus"] = []
    decision = decide(host)
    mine = ", ".join(name for name in broken if name != "vim")
    assert decision["drift"][0] == {"part": "packages", "problem": f"half installed: {mine}"}
    assert decision["refused"] == refused
    assert decision["install"] == decision["plan"]["modules"] + decision["plan"]["libraries"]


def test_persistence_mode_that_is_off():
    host = converged()
    host["gpus"][0]["persistence_mode"] = False
    assert parts(host) == ["persistence"]


@pytest.mark.parametrize(
    ("version", "active", "expected", "install"),
    [
        (None, None, ["packages"], ["nvidia-fabricmanager-580=580.159.04*"]),
        ("580.126.20", True, ["packages"], ["nvidia-fabricmanager-580=580.159.04*"]),
        ("580.173.02", True, ["packages"], ["nvidia-fabricmanager-580=580.159.04*"]),
        ("590.48.01", True, ["packages"], ["nvidia-fabricmanager-580=580.159.04*"]),
        ("580.159.04", False, ["services"], []),
        ("580.159.04", True, [], []),
    ],
)
def test_fabric_manager_has_the_drivers_very_version(version, active, expected, install):
    host = converged(nvidia={"fabricmanager": {"version": version, "active": active}})
    host["nvidia"]["pci"].append(SWITCH)
    decision = decide(host)
    assert [reason["part"] for reason in decision["drift"]] == expected
    assert decision["install"] == install
    # one that is ahead has to go back, which a package manager does only when it is told to
    assert decision["plan"]["downgrade"] is ((version or "") > "580.159.04")


def test_a_driver_of_the_branch_that_others_brought_is_taken_and_held():
    host = converged()
    host["packages"] = {"nvidia-driver-580-open": "580.159.04-0ubuntu0.24.04.1", "nvidia-container-toolkit": "1.20.0-1"}
    host["holds"] = []
    decision = decide(host)
    assert [reason["part"] for reason in decision["drift"]] == ["hold"]
    assert decision["hold"] == ["nvidia-driver-580-open"]


def test_a_driver_that_runs_is_not_replaced_before_the_new_one_can_be_loaded():
    host = with_driver(version="550.163.01", nvidia={"users": USERS}, **NAMED)
    assert "container llmops-chat, process VLLM::EngineCor (pid 4711)" in decide(host)["refused"][0]
    assert decide(host, reboot=True)["refused"] == []
    assert decide(host, branch="550")["refused"] == []
    # on a bare host nothing is lost: packages first, then the reboot
    assert decide(bare(nvidia={"nouveau": True}))["refused"] == []


def test_a_bare_host_whose_gpu_nouveau_drives_is_told_of_the_reboot_before():
    host = bare()
    assert decide(host)["state"]["then"] == "reload"
    host["nvidia"]["pci"][0]["driver"] = "nouveau"
    state = decide(host)["state"]
    assert (state["action"], state["then"]) == ("install", "reboot")
    assert "nouveau cannot be unloaded while it drives a GPU. Set nvidia_driver_reboot: true" in state["failure"]


def test_our_own_holds_are_moved():
    host = converged()
    assert decide(host)["unhold"] == sorted(host["holds"])


# apt 2.6 said this of a package whose dependencies are in no archive
UNMET = """Some packages could not be installed. This may mean that you have
requested an impossible situation or if you are using the unstable
The following information may help to resolve the situation:

The following packages have unmet dependencies:
 nvidia-headless-580 : Depends: nvidia-kernel-common-580 (>= 580.173.02) but it is not installable
                       Depends: libnvidia-cfg1-580 (= 580.173.02-0ubuntu1) but it is not installable
"""
# constructed after the texts of apt 3's solver and of dnf 4
SOLVER = """E: Unable to satisfy dependencies. Reached two conflicting decisions:
   1. nvidia-headless-580:amd64 is not selected for install
   2. nvidia-headless-580:amd64 is selected for install
"""
DNF = """Last metadata expiration check: 0:01:00 ago.
Error:
 Problem: package kmod-nvidia-open-dkms-3:580.1-1.el9.noarch requires dkms, but none of the providers can be installed
  - nothing provides dkms needed by kmod-nvidia-open-dkms
"""


@pytest.mark.parametrize(
    ("stdout", "stderr", "expected"),
    [
        (
            UNMET,
            "E: Unable to correct problems, you have held broken packages.\n",
            [
                "nvidia-headless-580 : Depends: nvidia-kernel-common-580 (>= 580.173.02) but it is not installable",
                "Depends: libnvidia-cfg1-580 (= 580.173.02-0ubuntu1) but it is not installable",
                "E: Unable to correct problems, you have held broken packages.",
            ],
        ),
        (
            "Reading package lists...\n",
            "W: Target Packages is configured twice\nE: Unable to locate package a\nE: Unable to locate package b\n",
            [
                "E: Unable to locate package a",
                "E: Unable to locate package b",
                "W: Target Packages is configured twice",
            ],
        ),
        (
            "",
            SOLVER,
            [
                "E: Unable to satisfy dependencies. Reached two conflicting decisions:",
                "1. nvidia-headless-580:amd64 is not selected for install",
                "2. nvidia-headless-580:amd64 is selected for install",
            ],
        ),
        (
            "",
            DNF,
            [
                "Problem: package kmod-nvidia-open-dkms-3:580.1-1.el9.noarch requires dkms, but none of the providers "
                "can be installed",
                "- nothing provides dkms needed by kmod-nvidia-open-dkms",
            ],
        ),
        ("out", "one\n\ntwo\nthree\nfour\n", ["two", "three", "four"]),
        ("one\ntwo\n", "", ["one", "two"]),
        ("", "", []),
        ("", "".join(f"E: {number}\n" for number in range(20)), [f"E: {number}" for number in range(8)]),
    ],
)
def test_the_lines_that_say_why_packages_cannot_be_had(stdout, stderr, expected):
    assert _nvidia_driver.complaint(stdout, stderr) == expected


@pytest.mark.parametrize("system", ["ubuntu-24.04", "debian-12", "rocky-9"])
def test_what_was_held_and_is_to_be_held_no_longer_is_released_once(system):
    host = converged(system)
    decision = decide(host, hold=False)
    assert decision["release"] == sorted(host["holds"]) and decision["hold"] == []
    (reason,) = decision["drift"]
    assert reason == {"part": "hold", "problem": f"still held: {', '.join(decision['release'])}"}
    assert decide(merged(host, {"holds": []}), hold=False)["drift"] == []


def test_holds_of_others_stay():
    host = converged(holds=["vim"])
    assert decide(host, hold=False)["drift"] == []
    # the role was never here: without our pin nothing is ours
    host = converged(apt={"files": {_nvidia_plan.PIN_PATH: None}})
    del host["apt"]["files"][_nvidia_plan.PIN_PATH]
    assert decide(host, hold=False)["release"] == []
    # modules that are built serve any kernel: the role holds none
    host = converged("debian-12")
    host["packages"]["linux-image-amd64"] = "6.1.0-50"
    host["holds"] = [*host["holds"], "linux-image-amd64"]
    assert "linux-image-amd64" not in decide(host, hold=False)["release"]


def test_unattended_upgrades_are_let_at_the_driver_again():
    host = converged()
    (reason,) = decide(host, block_unattended_upgrades=False)["drift"]
    assert reason == {"part": "files", "problem": f"{_nvidia_plan.UNATTENDED_PATH} is left over"}
    del host["apt"]["files"][_nvidia_plan.UNATTENDED_PATH]
    assert decide(host, block_unattended_upgrades=False)["drift"] == []
    assert plan(bare("rocky-9"), block_unattended_upgrades=False)["absent_files"] == [_nvidia_plan.PARAMS_PATH]


def test_locks_of_the_toolkit_are_not_the_drivers():
    toolkit = ["libnvidia-container1", "libnvidia-container-tools", "nvidia-container-toolkit"]
    assert parts(converged("rocky-9", holds=toolkit)) == ["hold"]
    assert parts(converged("rocky-9", holds=toolkit), hold=False) == []
    both = converged("rocky-9", holds=[*toolkit, "nvidia-driver", "kmod-nvidia-open-dkms"])
    assert parts(both) == []
    assert decide(both)["unhold"] == ["nvidia-driver", "kmod-nvidia-open-dkms"]


# -- refusals ----------------------------------------------------------------------------------------------------------


def problems(host, **settings):
    return [
        f"{entry['problem']}: {entry['remedy']}"
        for entry in _nvidia_driver.refusals(host, settings, plan(host, **settings))
    ]


PPA = {"apt": {"sources": {"gd.list": {"uris": ["https://ppa.launchpadcontent.net/graphics-drivers/ppa/ubuntu"]}}}}
OTHER_CUDA = {"apt": {"sources": {
    "cuda-ubuntu2404-x86_64.list": {"uris": ["https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/x86_64/"]},
}}}  # fmt: skip
OUR_CUDA = {"apt": {"sources": {
    _nvidia_plan.SOURCE_NAME: {"uris": ["https://developer.download.nvidia.cn/compute/cuda/repos/debian12/x86_64"]},
}}}  # fmt: skip


@pytest.mark.parametrize(
    ("system", "changes", "settings", "expected"),
    [
        ("ubuntu-24.04", {}, {}, None),
        ("debian-12", {}, {}, None),
        ("debian-12", OUR_CUDA, {}, None),
        ("ubuntu-24.04", {"virtualization": "kvm"}, {}, None),
        ("ubuntu-24.04", {"virtualization": "lxc"}, {}, "this host is a container (lxc)"),
        ("ubuntu-24.04", {"virtualization": "wsl"}, {}, "this host is WSL"),
        ("ubuntu-24.04", {"nvidia": {"run_file": True}}, {}, "run `nvidia-uninstall` and reboot"),
        ("ubuntu-24.04", {"nvidia": {"driver": {"module_loaded": {"version": "550.163.01"}}}}, {},
         "driver 550.163.01 runs, and no package on this host brought it: reboot the host"),
        ("ubuntu-24.04", {"packages": {"dgx-release": "7.2"}}, {}, "DGX OS manages the driver itself"),
        ("ubuntu-24.04", {"nvidia": {"dgx_os": True}}, {}, "DGX OS manages the driver itself"),
        ("ubuntu-24.04", {"nvidia": {"driver_container": True}}, {}, "GPU operator"),
        ("ubuntu-24.04", PPA, {}, "remove /etc/apt/sources.list.d/gd.list"),
        ("ubuntu-24.04", OTHER_CUDA, {}, "or set nvidia_driver_source: cuda-repo"),
        ("ubuntu-24.04", OTHER_CUDA, {"source": CUDA}, "and the package cuda-keyring"),
        ("rocky-9", {"packages": {"akmod-nvidia": "3:580-1"}}, {}, "dnf remove akmod-nvidia"),
        ("ubuntu-24.04", {"packages_broken": ["nvidia-dkms-580"]}, {}, "half installed: nvidia-dkms-580: run `dpkg"),
        ("ubuntu-24.04", {"security": {"secure_boot": True}}, {}, None),
        ("ubuntu-24.04", {"security": {"secure_boot": True}}, {"dkms": True}, "or take Ubuntu's signed modules"),
        ("debian-12", {"security": {"secure_boot": True}}, {}, "Secure Boot is on and would not load the module"),
        ("debian-12", {"security": {"secure_boot": True}}, {"mok_enrolled": True}, None),
        ("debian-12", {"security": {"secure_boot": None}}, {}, None),
        ("debian-12", {"security": {"lockdown": "integrity"}}, {}, "the kernel is locked down (integrity)"),
        ("debian-12", {"kernel_headers": False}, {}, None),
        ("debian-12", {"kernel_headers": False, "kernels_installed": ["6.1.0-51-amd64"]}, {},
         "the running kernel 6.1.0-50-amd64 has no headers"),
    ],
)  # fmt: skip
def test_what_stands_against_a_change(system, changes, settings, expected):
    found = problems(bare(system, **changes), **settings)
    assert len(found) == (expected is not None)
    assert all(expected in line and "\n" not in line for line in found)


@pytest.mark.parametrize(
    ("name", "version", "pinned", "blocks"),
    [
        ("nvidia-driver-550", "550.163.01-0ubuntu0.24.04.1", False, True),
        ("nvidia-driver-580", "580.159.04-0ubuntu0.24.04.1", False, False),
        ("nvidia-container-toolkit", "1.17.8-1", False, False),
        # held by ourselves
        ("nvidia-driver-550", "550.163.01-0ubuntu0.24.04.1", True, False),
        ("linux-modules-nvidia-550-server-6.8.0-90-generic", "6.8.0-90.91", False, False),
    ],
)
def test_a_hold_of_somebody_else_blocks(name, version, pinned, blocks):
    host = bare(packages={name: version}, holds=[name])
    host["apt"]["files"] = {_nvidia_plan.PIN_PATH: "1"} if pinned else {}
    assert bool(problems(host)) is blocks
    assert all(f"apt-mark unhold {name}" in line for line in problems(host))


def test_nothing_is_refused_where_nothing_changes():
    host = converged(virtualization="lxc", nvidia={"run_file": True, "dgx_os": True}, **PPA)
    assert decide(host)["refused"] == []


@pytest.mark.parametrize(
    ("changes", "settings", "outside"),
    [
        ({}, {}, True),
        ({}, {"branch": "595"}, False),
        ({}, {"version": A}, True),
        ({}, {"version": B}, False),
        ({"nvidia": {"run_file": True}}, {}, False),
        ({"nvidia": {"driver": {"nvml": B}}}, {}, False),
        ({"gpu_error": "no answer after 120 s"}, {}, False),
        ({"nvidia": {"driver": {"package_version": A}}}, {}, False),
    ],
)
def test_a_driver_that_works_and_comes_from_outside_is_left_alone(changes, settings, outside):
    host = merged(with_driver(nvidia={"driver": {"package_version": None, "module_disk": None}}), changes)
    assert (decide(host, **settings)["drift"] == []) is outside
    if not outside and not changes:
        assert "no package on this host brought it" in decide(host, **settings)["refused"][0]


@pytest.mark.parametrize(
    ("signer", "secure_boot", "settings", "refused"),
    [
        ("", True, {}, True),
        ("", False, {}, False),
        ("", True, {"mok_enrolled": True}, False),
        ("Canonical Ltd. Kernel Module Signing", True, {}, False),
    ],
)
def test_a_module_that_secure_boot_would_not_load_is_not_rebooted_for(signer, secure_boot, settings, refused):
    host = converged(security={"secure_boot": secure_boot})
    host["nvidia"]["driver"].update(module_loaded=None, nvml=None)
    host["nvidia"]["driver"]["module_disk"]["signer"] = signer
    assert any("Secure Boot is on" in line for line in decide(host, **settings)["refused"]) is refused


# -- transactions ------------------------------------------------------------------------------------------------------

APT = """Inst nvidia-utils-580-server (580.159.04-0ubuntu0.24.04.1 Ubuntu:24.04/noble-updates [amd64])
Inst linux-image-6.8.0-100-generic (6.8.0-100.100 Ubuntu:24.04/noble-updates [amd64])
Inst linux-image-6.8.0-90-generic [6.8.0-90.91] (6.8.0-90.92 Ubuntu:24.04/noble-updates [amd64])
Inst linux-image-generic (6.8.0-100.100 Ubuntu:24.04/noble-updates [amd64])
Conf linux-image-6.8.0-100-generic (6.8.0-100.100 Ubuntu:24.04/noble-updates [amd64])
"""
DNF = """Installing:
 nvidia-driver-cuda      x86_64   3:580.159.04-1.el9           cuda     500 k
Installing dependencies:
 kernel-core             x86_64   5.14.0-611.5.1.el9_7         baseos    18 M
 kernel-devel-matched    x86_64   5.14.0-611.5.1.el9_7         baseos    18 M
"""


def test_kernels_that_a_transaction_brings():
    assert _nvidia_driver.new_kernels(APT, bare()) == ["6.8.0-100-generic"]
    assert _nvidia_driver.new_kernels(DNF, bare("rocky-9")) == ["5.14.0-611.5.1.el9_7.x86_64"]
    known = bare("rocky-9", kernels_installed=["5.14.0-611.5.1.el9_7.x86_64"])
    assert _nvidia_driver.new_kernels(DNF, known) == []
    assert _nvidia_driver.new_kernels("", bare()) == []


TRANSITIONAL = """Inst nvidia-utils-570-server [570.1-1] (580.173.02-0ubuntu0.26.04.1 Ubuntu:26.04/resolute [amd64])
Inst libnvidia-compute-580-server (580.173.02-0ubuntu0.26.04.1 Ubuntu:26.04/resolute [amd64])
Inst linux-modules-nvidia-570-server-open-7.0.0-12-generic (7.0.0-12.12 Ubuntu:26.04/resolute [amd64])
Inst nvidia-settings (510.47.03-0ubuntu4 Ubuntu:26.04/resolute [amd64])
Inst nvidia-container-toolkit (1.20.0-1 NVIDIA [amd64])
Inst dkms (3.0.11-1ubuntu13 Ubuntu:26.04/resolute [all])
"""


def test_a_package_of_a_branch_that_is_gone_does_not_bring_another():
    assert _nvidia_driver.other_branches(TRANSITIONAL, "570") == [
        "nvidia-utils-570-server 580.173.02-0ubuntu0.26.04.1",
        "libnvidia-compute-580-server 580.173.02-0ubuntu0.26.04.1",
    ]
    assert _nvidia_driver.other_branches(TRANSITIONAL, "580") == []
    assert _nvidia_driver.other_branches(DNF, "580") == []
    assert _nvidia_driver.other_branches(DNF, "595") == ["nvidia-driver-cuda 3:580.159.04-1.el9"]


# dnf 4.14 without a terminal, which has 80 columns then
WRAPPED = """Upgrading:
 kmod-nvidia-open-dkms x86_64 3:595.71.05-1.el9 llmops-fleet-nvidia-cuda 7.2 k
 nvidia-driver-cuda-libs
                       x86_64 3:595.71.05-1.el9 llmops-fleet-nvidia-cuda 6.2 k
"""


def test_a_name_that_dnf_wraps_counts():
    assert _nvidia_driver.other_branches(WRAPPED, "580") == [
        "kmod-nvidia-open-dkms 3:595.71.05-1.el9",
        "nvidia-driver-cuda-libs 3:595.71.05-1.el9",
    ]
    assert _nvidia_driver.other_branches(WRAPPED, "595") == []


# -- findings ----------------------------------------------------------------------------------------------------------

CHAT = {"name": "chat", "image": "registry.local:5000/vllm:1", "gpus": 1, "state": "present"}


def findings(host, services=(), **settings):
    return _nvidia_driver.nvidia_findings(host, services, {"host_name": "gpu3", **settings})


def test_findings_of_a_host_that_is_as_it_should_be():
    assert findings(converged(), [{**CHAT, "image": "x:cu130"}]) == []


def test_no_gpu_no_findings():
    assert findings(bare(nvidia={"pci": []}), [CHAT], image_cuda={CHAT["image"]: "13.0"}) == []


@pytest.mark.parametrize(
    ("host", "settings", "count"),
    [
        # the role brings 580 before the service comes
        (with_driver(version="550.163.01"), {}, 0),
        (with_driver(version="550.163.01"), {"branch": "550"}, 1),
        (with_driver(version="550.163.01"), {"state": "unmanaged"}, 1),
        (bare(), {}, 0),
        (bare("debian-12", "volta"), {}, 1),
    ],
)
def test_an_image_against_the_driver_that_the_host_will_have(host, settings, count):
    found = findings(host, [CHAT], image_cuda={CHAT["image"]: "13.0"}, **settings)
    assert len([entry for entry in found if entry["item"] == "service chat"]) == count


@pytest.mark.parametrize("service", [{**CHAT, "gpus": 0}, {**CHAT, "state": "absent"}])
def test_services_that_use_no_gpu_are_not_asked(service):
    host = with_driver(version="550.163.01")
    assert not any(entry["item"] == "service chat" for entry in
                   findings(host, [service], image_cuda={CHAT["image"]: "13.0"}, branch="550"))  # fmt: skip


def test_a_finding_has_problem_and_remedy_apart():
    found = findings(bare("ubuntu-24.04", "volta"), branch="595")
    assert found == [
        {
            "item": "NVIDIA driver",
            "problem": "nvidia_driver_branch: branch 595 does not drive Volta, the last that does is 580",
            "remedy": 'set "580"',
            "level": "enforce",
        }
    ]


@pytest.mark.parametrize(
    ("host", "settings", "level", "remedy"),
    [
        (
            outdated(nvidia={"users": USERS}),
            {},
            "enforce",
            "Stop that and run again, or set nvidia_driver_reboot: true",
        ),
        (outdated(nvidia={"users": USERS}), {"reboot": True}, "warn", "nvidia_driver_reboot allows it"),
        (bare(nvidia={"nouveau": True}), {}, "warn", "Set nvidia_driver_reboot: true, or reboot the host by hand"),
        (versions(A, A, A, B), {}, "enforce", "remove the driver libraries that no package owns"),
        (bare(virtualization="lxc"), {}, "enforce", "nvidia_driver_state: unmanaged"),
    ],
)
def test_findings_of_a_host_that_has_to_be_changed(host, settings, level, remedy):
    (found,) = findings(host, **settings)
    assert (found["level"], found["item"]) == (level, "NVIDIA driver")
    assert remedy in found["remedy"]
    assert found["problem"] and remedy not in found["problem"]


def test_notes_are_shown_and_stop_nothing():
    (found,) = findings(converged(), branch="570")
    assert (found["level"], "is kept" in found["problem"]) == ("warn", True)


# -- whatever a host says ----------------------------------------------------------------------------------------------

VERSIONS = st.sampled_from([None, "550.163.01", A, B, "595.71.05"])


@given(
    system=st.sampled_from(sorted(SYSTEMS)),
    generation=st.sampled_from(sorted(DEVICES)),
    package=VERSIONS,
    disk=VERSIONS,
    loaded=VERSIONS,
    nvml=VERSIONS,
    users=st.sampled_from([[], USERS]),
    reboot=st.booleans(),
    local=st.booleans(),
    nouveau=st.booleans(),
    refcount=st.sampled_from([None, 0, 2, 9]),
)
def test_whoever_holds_the_gpu_keeps_it(
    system, generation, package, disk, loaded, nvml, users, reboot, local, nouveau, refcount
):
    host = with_driver(system, generation=generation, nvidia={"users": users, "nouveau": nouveau})
    section = host["nvidia"]["driver"]
    section.update(package_version=package, nvml=nvml)
    section["module_disk"] = {**section["module_disk"], "version": disk} if disk else None
    section["module_loaded"] = {**section["module_loaded"], "version": loaded, "refcount": refcount} if loaded else None
    decision = decide(host, reboot=reboot, local=local)
    if _nvidia_driver.comes_from_outside(host):
        assert decision["drift"] == decision["install"] == []
        return
    found = decision["state"]
    if users and loaded:
        assert found["then"] != "reload"
        if found["action"] == "install":
            assert decision["refused"] or (reboot and not local)
    if found["then"] == "reboot" and (local or not reboot):
        assert found["failure"].startswith("a reboot is needed: ")
    if package == disk == loaded == nvml and package is not None and found["action"] != "install":
        assert found["action"] == "none"
    assert all("\n" not in line for line in decision["refused"])
