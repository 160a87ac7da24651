# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docker_engine, nvidia_driver and nvidia_container_toolkit on EL 9 and EL 10, from bare to removed, over a real dnf.

proves: that dnf, rpm, createrepo_c, modules (streams) and versionlock of these generations do with the roles' files,
  names, versions and commands what the roles mean: which packages come, at which versions, from which mirror, locked
  or not; that keys and signatures are checked; what --check tells; that a second run changes nothing; that host_info
  reads an EL right
does_not_prove: that Rocky, Alma, Docker and NVIDIA have such packages: these are small ones with the names, versions
  and relations of the real ones' spec files (el_packages.py). That anything in them works: dockerd, dkms, systemctl,
  modprobe and dracut are stand-ins (doubles/), and there is no GPU. EL's own builds of dnf and rpm, and its Python 3.9:
  these are Debian's (el_root.py). SELinux, FIPS, firewalld, crypto policies, subscription-manager, proxies, aarch64.

The hosts go through one life. What a moment of it left is recorded by the fixture of that moment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from el_fleet import REPOSITORY, Fleet, Play, State
from el_packages import KERNELS

HOSTS = ("rocky9", "alma10")
SYSTEMS = {"rocky9": "9", "alma10": "10"}
PROVISION = REPOSITORY / "playbooks/provision.yml"
OLD = {
    "docker_engine_version": "29.7.1",
    "nvidia_driver_version": "580.159.04",
    "nvidia_container_toolkit_version": "1.19.1-1",
}
TOOLKIT = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
DRIVER = (
    *("kmod-nvidia-open-dkms", "nvidia-kmod-common", "nvidia-driver-cuda", "nvidia-driver-cuda-libs"),
    *("libnvidia-ml", "libnvidia-cfg", "nvidia-persistenced"),
)
DOCKER_REPO = """\
# Managed by llmops.fleet
[docker-ce-stable]
name=Docker CE Stable from ustc
baseurl={mirror}/ustc/docker-ce/linux/centos/{system}/x86_64/stable
enabled=1
gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-docker
"""


@dataclass(frozen=True)
class Moment:
    play: Play
    hosts: dict[str, State]


def moment(fleet: Fleet, play: Play) -> Moment:
    return Moment(play, {name: host.state() for name, host in fleet.hosts.items()})


def docker(version: str) -> dict[str, str]:
    return {
        "docker-ce": f"3:{version}-1",
        "docker-ce-cli": f"1:{version}-1",
        "containerd.io": "2.2.1-1",
        "docker-buildx-plugin": "0.34.1-1",
        "docker-compose-plugin": "5.5.0-1",
    }


def driver(version: str) -> dict[str, str]:
    return {name: f"3:{version}-1" for name in DRIVER}


def toolkit(version: str) -> dict[str, str]:
    return dict.fromkeys(TOOLKIT, f"{version}-1")


def of(state: State, prefixes: tuple[str, ...]) -> dict[str, str]:
    return {name: version for name, version in state.rpms.items() if name.startswith(prefixes)}


def dockers(state: State) -> dict[str, str]:
    return of(state, ("docker", "containerd"))


def toolkits(state: State) -> dict[str, str]:
    return of(state, ("nvidia-container", "libnvidia-container"))


def drivers(state: State) -> dict[str, str]:
    found = of(state, ("nvidia", "libnvidia", "kmod-nvidia"))
    return {name: version for name, version in found.items() if name not in TOOLKIT}


def locked(versions: dict[str, str]) -> set[str]:
    """As versionlock writes it: with an epoch in any case."""
    return {f"{name}-{version if ':' in version else f'0:{version}'}" for name, version in versions.items()}


def no_failure(play: Play) -> None:
    for host in play.stats:
        assert play.failure(host) == ""


# ---------------------------------------------------------------------------------------------------- the life


@pytest.fixture(scope="module")
def refused(fleet):
    """What podman-docker on one host makes of it."""
    fleet.hosts["alma10"].do("dnf", "-yq", "install", "podman-docker")
    before = {name: host.listing() for name, host in fleet.hosts.items()}
    play = fleet.playbook(PROVISION, **OLD)
    after = {name: host.listing() for name, host in fleet.hosts.items()}
    fleet.hosts["alma10"].do("dnf", "-yq", "remove", "podman-docker")
    return play, before, after


@pytest.fixture(scope="module")
def told(fleet, refused):
    """--check on bare hosts."""
    before = {name: host.listing() for name, host in fleet.hosts.items()}
    play = fleet.playbook(PROVISION, "--check", **OLD)
    return play, before, {name: host.listing() for name, host in fleet.hosts.items()}


@pytest.fixture(scope="module")
def installed(fleet, told, mirrors):
    """The first mirror of Docker has packages that another key signed."""
    urls = fleet.variables["docker_engine_mirror_urls"]
    sound, urls["tuna"] = urls["tuna"], f"{mirrors.url}/tuna/forged/docker-ce"
    seen = moment(fleet, fleet.playbook(PROVISION, **OLD))
    urls["tuna"] = sound
    return seen


@pytest.fixture(scope="module")
def converged(fleet, installed):
    return moment(fleet, fleet.playbook(PROVISION, **OLD))


@pytest.fixture(scope="module")
def upgraded_by_hand(fleet, converged):
    for host in fleet.hosts.values():
        host.do("dnf", "-yq", "upgrade")
    return {name: host.state() for name, host in fleet.hosts.items()}


@pytest.fixture(scope="module")
def cut_off(fleet, upgraded_by_hand, mirrors):
    """A driver that cannot be downloaded, and an upgrade by hand after that."""
    unload(fleet)
    mirrors.control({"official": {"403": {"only": "kmod-nvidia-open-dkms-595"}}})
    play = fleet.role("nvidia_driver", limit="alma10", nvidia_driver_branch="595")
    mirrors.control({"reset": True})
    seen = moment(fleet, play)
    fleet.hosts["alma10"].do("dnf", "-yq", "upgrade")
    return seen, fleet.hosts["alma10"].state()


@pytest.fixture(scope="module")
def changed(fleet, cut_off):
    """Newer versions on one host; an older Docker and another branch of the driver on the other; newer toolkits."""
    fleet.hosts["rocky9"].settings = {
        "docker_engine_version": "29",
        "docker_engine_upgrade": True,
        "nvidia_driver_version": "580.173.02",
    }
    fleet.hosts["alma10"].settings = {"docker_engine_version": "29.6", "nvidia_driver_branch": "595"}
    return moment(fleet, fleet.playbook(PROVISION))


@pytest.fixture(scope="module")
def older(fleet, changed):
    """The driver of the default branch again, and a module that was not built for the kernel."""
    unload(fleet)
    fleet.hosts["rocky9"].do("sh", "-c", 'rm /lib/modules/*/extra/*; depmod "$0"', f"{KERNELS['9'][0]}.x86_64")
    fleet.hosts["alma10"].settings = {"nvidia_driver_allow_downgrade": True}
    return moment(fleet, fleet.role("nvidia_driver"))


@pytest.fixture(scope="module")
def removed(fleet, older):
    tasks = [
        {**include("nvidia_container_toolkit"), "vars": {"nvidia_container_toolkit_state": "absent"}},
        {**include("nvidia_driver"), "vars": {"nvidia_driver_state": "absent"}},
        include("docker_engine", "remove"),
    ]
    return moment(fleet, fleet.play(tasks))


def include(role: str, entry: str = "main") -> dict[str, Any]:
    return {"ansible.builtin.include_role": {"name": f"llmops.fleet.{role}", "tasks_from": entry}}


def unload(fleet: Fleet) -> None:
    """A driver that runs is not replaced where it cannot be seen whether something uses it, as here."""
    for host in fleet.hosts.values():
        host.do("rmmod", "nvidia-uvm", "nvidia")
        host.do("systemctl", "stop", "nvidia-persistenced")


# ---------------------------------------------------------------------------------------------------- what is said


def test_podman_docker_is_reported_before_anything_is_changed(refused):
    play, before, after = refused
    (failure,) = {play.failure(host) for host in HOSTS} - {""}
    assert failure.splitlines()[1:] == [
        "alma10: package podman-docker answers to the name docker; remove it (podman itself may stay)"
    ]
    for host in HOSTS:
        assert set(after[host]) ^ set(before[host]) == set()


def test_preflight_finds_nothing_else_on_them(told):
    play, _before, _after = told
    assert not [name for name, _result in play.results("rocky9") if name.endswith("Show the findings of all hosts")]


@pytest.mark.parametrize("host", HOSTS)
def test_check_tells_what_would_come_from_where(told, host, mirrors):
    play, _before, _after = told
    no_failure(play)
    el, said = f"el{SYSTEMS[host]}", [message for message in play.messages(host) if message.startswith("Would ")]
    (of_docker,) = [message for message in said if "docker-ce" in message]
    assert of_docker.startswith(f"Would install docker-ce-3:29.7.1-1.{el}, docker-ce-cli-1:29.7.1-1.{el}, ")
    assert "nvidia-container-toolkit-1.19.1-1" in of_docker
    repository = f"{mirrors.url}/tuna/docker-ce/linux/centos/{SYSTEMS[host]}/x86_64/stable"
    assert of_docker.endswith(f"; Docker's own from tuna ({repository})")
    (of_driver,) = [message for message in said if "nvidia-driver-cuda" in message]
    assert f"nvidia-driver-cuda 3:580.159.04-1.{el}" in of_driver
    assert of_driver.endswith(f" from official ({mirrors.url}/official/cuda/repos/rhel{SYSTEMS[host]}/x86_64)")
    assert "No reboot would be needed: the module would be loaded" in play.messages(host)


@pytest.mark.parametrize("host", HOSTS)
def test_check_changes_nothing(told, host):
    _play, before, after = told
    assert set(after[host]) ^ set(before[host]) == set()


# ---------------------------------------------------------------------------------------------------- what is installed


@pytest.mark.parametrize("host", HOSTS)
class TestInstalled:
    def test_versions(self, installed, host):
        no_failure(installed.play)
        state = installed.hosts[host]
        assert dockers(state) == docker("29.7.1")
        assert toolkits(state) == toolkit("1.19.1")
        assert drivers(state) == driver("580.159.04")
        # what the system lacked beside them, and of kernels and their headers only the running one's
        assert {"python3-requests", "python3-pyyaml", "python3-dnf-plugin-versionlock", "dkms"} <= set(state.rpms)
        kernel = KERNELS[SYSTEMS[host]][0].partition(".el")[0]
        extra = {"kernel-modules-extra"} if host == "alma10" else set()
        assert of(state, ("kernel",)) == dict.fromkeys(
            {"kernel", "kernel-core", "kernel-devel", "kernel-devel-matched"} | extra, kernel
        )

    def test_packages_that_another_key_signed_are_not_installed(self, installed, host, mirrors):
        (passed_over,) = {message for message in installed.play.messages(host) if message.startswith("tuna: ")}
        assert passed_over.startswith("tuna: installation failed: Failed to validate GPG signature for ")
        assert installed.hosts[host].files["/etc/yum.repos.d/docker-ce.repo"] == DOCKER_REPO.format(
            mirror=mirrors.url, system=SYSTEMS[host]
        )

    def test_docker_starts_with_its_configuration(self, installed, host):
        state = installed.hosts[host]
        config = json.loads(state.files["/etc/docker/daemon.json"])
        assert config["runtimes"] == {"nvidia": {"path": "nvidia-container-runtime", "args": []}}
        started = [line for line in state.units if "docker.service" in line]
        assert started == ["enable docker.service", "start docker.service"]

    def test_locks(self, installed, host):
        locks = set(installed.hosts[host].locks)
        ours = locked(docker("29.7.1")) | locked(toolkit("1.19.1")) | locked(driver("580.159.04"))
        assert ours <= locks
        # of the driver's version also what is not installed
        others = {lock for lock in locks - ours}
        assert {"nvidia-driver-3:580.159.04-1", "nvidia-fabricmanager-0:580.159.04-1"} <= others
        assert all(lock.endswith(":580.159.04-1") for lock in others)

    def test_the_branch_is_a_stream_where_there_are_streams(self, installed, host):
        stream = installed.hosts[host].files["/etc/dnf/modules.d/nvidia-driver.module"]
        assert ("stream=580-open" in stream.splitlines()) is (host == "rocky9")

    def test_the_module_is_built_found_and_loaded(self, installed, host):
        assert installed.hosts[host].kernel_modules == ["dracut --force", "modprobe nvidia", "modprobe nvidia-uvm"]
        assert "start nvidia-persistenced.service" in installed.hosts[host].units

    def test_a_second_run_changes_nothing(self, installed, converged, host):
        no_failure(converged.play)
        assert converged.play.changed(host) == []
        assert converged.hosts[host] == installed.hosts[host]

    def test_an_upgrade_by_hand_moves_the_system_alone(self, installed, upgraded_by_hand, host):
        before, after = installed.hosts[host], upgraded_by_hand[host]
        assert (dockers(after), toolkits(after), drivers(after)) == (dockers(before), toolkits(before), drivers(before))
        assert after.rpms["kernel-devel-matched"] == KERNELS[SYSTEMS[host]][1].partition(".el")[0]


# ---------------------------------------------------------------------------------------------------- what is changed


def test_a_driver_that_cannot_be_had_leaves_the_locks_of_the_one_that_is_there(cut_off, upgraded_by_hand):
    seen, later = cut_off
    before = upgraded_by_hand["alma10"]
    assert seen.play.failure("alma10").startswith("The driver could not be installed: ")
    assert "kmod-nvidia-open-dkms" in seen.play.failure("alma10")
    assert drivers(seen.hosts["alma10"]) == drivers(before)
    locks = {lock for lock in seen.hosts["alma10"].locks if "nvidia" in lock and "container" not in lock}
    assert locks == locked(driver("580.159.04"))
    # and not the newest branch, with the next upgrade
    assert drivers(later) == drivers(before)


@pytest.mark.parametrize(
    ("host", "engine", "of_driver"), [("rocky9", "29.7.2", "580.173.02"), ("alma10", "29.6.0", "595.71.05")]
)
class TestChanged:
    def test_our_own_locks_are_in_nobodys_way(self, changed, host, engine, of_driver):
        no_failure(changed.play)
        state = changed.hosts[host]
        assert dockers(state) == docker(engine)
        assert toolkits(state) == toolkit("1.20.0")
        assert drivers(state) == driver(of_driver)

    def test_and_are_set_again(self, changed, host, engine, of_driver):
        locks = set(changed.hosts[host].locks)
        ours = locked(docker(engine)) | locked(toolkit("1.20.0")) | locked(driver(of_driver))
        assert ours <= locks
        assert all(lock.endswith(f":{of_driver}-1") for lock in locks - ours)

    def test_the_stream_goes_along(self, changed, host, engine, of_driver):
        lines = changed.hosts[host].files["/etc/dnf/modules.d/nvidia-driver.module"].splitlines()
        assert ("stream=580-open" in lines) is (host == "rocky9")

    def test_headers_of_both_kernels_are_there(self, changed, fleet, host, engine, of_driver):
        """The running one and the one that the upgrade by hand brought."""
        kernels = [f"{kernel}.x86_64" for kernel in KERNELS[SYSTEMS[host]]]
        for kernel in kernels:
            words = ["modinfo", "-k", kernel, "-F", "version", "nvidia"]
            assert fleet.hosts[host].run(*words)[0] == 0


def test_a_driver_of_an_older_branch(older):
    assert older.play.failure("alma10") == ""
    assert drivers(older.hosts["alma10"]) == driver("580.173.02")


def test_a_module_that_was_not_built_is_built(older):
    assert older.play.failure("rocky9") == ""
    assert "Build the modules for a kernel that has none yet" in older.play.changed("rocky9")
    assert older.hosts["rocky9"].kernel_modules[-2:] == ["modprobe nvidia", "modprobe nvidia-uvm"]


@pytest.mark.parametrize("host", HOSTS)
def test_what_is_removed_leaves_nothing(removed, host):
    no_failure(removed.play)
    state = removed.hosts[host]
    assert (dockers(state), toolkits(state), drivers(state)) == ({}, {}, {})
    assert state.locks == []
    assert {text for path, text in state.files.items()} == {""}
    assert "disable docker.service docker.socket" in state.units
