# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import el_root
from el_fleet import Fleet, Host
from mirror import Mirror

NAMES = {"9": "rocky9", "10": "alma10"}


@pytest.fixture(scope="session")
def made():
    """Roots and repositories out of the cache, which are made first where they are not there."""
    return el_root.cached()


@pytest.fixture(scope="session")
def mirrors(made):
    with Mirror(made.tree) as mirror:
        yield mirror


def variables(made, url):
    """What an inventory says of mirrors that sign with keys of their own."""
    return {
        "preflight_gpu_health": "ignore",  # the GPU is a folder, and there is no nvidia-smi
        "docker_engine_mirrors": ["tuna", "ustc"],
        "docker_engine_mirror_urls": {name: f"{url}/{name}/docker-ce" for name in ("tuna", "ustc")},
        "docker_engine_mirror_fingerprints": [made.fingerprints["docker"]],
        "nvidia_driver_mirrors": ["official"],
        "nvidia_driver_mirror_urls": {"official": f"{url}/official/cuda/repos"},
        "nvidia_driver_mirror_fingerprints": [made.fingerprints["nvidia"]],
        "nvidia_container_toolkit_mirrors": ["ustc"],
        "nvidia_container_toolkit_mirror_urls": {"ustc": f"{url}/ustc/libnvidia-container"},
        "nvidia_container_toolkit_mirror_fingerprints": [made.fingerprints["nvidia"]],
    }


@pytest.fixture(scope="module")
def fleet(made, mirrors, tmp_path_factory):
    """A fresh Rocky 9 and a fresh Alma 10 for the tests of one file."""
    with contextlib.ExitStack() as running:
        hosts = []
        for system, name in NAMES.items():
            folder = tmp_path_factory.mktemp(name)
            hosts.append(running.enter_context(Host(name, system, made.roots[system], folder, mirrors.url)))
        yield Fleet(hosts, tmp_path_factory.mktemp("fleet"), mirrors.url, variables(made, mirrors.url))
    mirrors.control({"reset": True})
