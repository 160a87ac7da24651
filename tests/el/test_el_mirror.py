# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""package_mirror over dnf's repositories as createrepo_c makes them, run by Ansible on hosts that have an EL's Python.

proves: that real metadata (gzip of createrepo_c 0.17, Zstandard of 1.2) is read, and each fault told in one line
does_not_prove: that Docker's and NVIDIA's repositories look like these; Python 3.9, which is EL 9's (here it is 3.11)
"""

from __future__ import annotations

import pytest

FAULTS = {
    "keyed": "wrong_key",
    "stale": "stale_index",
    "gone": "missing_suite",
    "old": "no_version",
    "cut": {"truncated_deb": {"only": "docker-ce-cli"}},
    "down": "down",
}
WANTED = {"docker-ce": "29.7", "docker-ce-cli": "29.7.2-1", "containerd.io": ""}


def probe(fleet, made, names, packages):
    docker = "linux/centos/{{ ansible_el }}"
    mirrors = [
        {
            "name": name,
            "url": f"{fleet.mirror}/{name}/docker-ce/{docker}/x86_64/stable",
            "key_url": f"{fleet.mirror}/{name}/docker-ce/linux/centos/gpg",
        }
        for name in names
    ]
    arguments = {
        "format": "rpm",
        "mirrors": mirrors,
        "architecture": "x86_64",
        "fingerprints": [made.fingerprints["docker"]],
        "owner": "Docker",
        "packages": packages,
        "timeout": 5,
        "all": True,
    }
    play = fleet.play([{"llmops.fleet.package_mirror": arguments}])
    return {host: next(result for _name, result in play.results(host)) for host in fleet.hosts}


@pytest.fixture(scope="module")
def probed(fleet, made, mirrors):
    mirrors.control(FAULTS)
    return probe(fleet, made, ["good", *FAULTS], WANTED)


@pytest.mark.parametrize(("host", "system"), [("rocky9", "9"), ("alma10", "10")])
class TestMirrors:
    def test_a_sound_one_serves(self, probed, made, host, system):
        assert probed[host]["serving"] == ["good"]
        good = probed[host]["mirrors"][0]
        assert good["versions"] == {
            "docker-ce": f"3:29.7.2-1.el{system}",
            "docker-ce-cli": f"1:29.7.2-1.el{system}",
            "containerd.io": f"2.2.1-1.el{system}",
        }
        assert (good["fingerprint"], good["reason"]) == (made.fingerprints["docker"], "")
        assert probed[host]["changed"] is False

    def test_every_other_one_says_why_not(self, probed, made, host, system):
        reasons = {mirror["name"]: mirror["reason"] for mirror in probed[host]["mirrors"][1:]}
        theirs, ours = (made.fingerprints[name][:16] for name in ("somebody-else", "docker"))
        cut = reasons.pop("cut")
        assert cut.startswith(f"docker-ce-cli-29.7.2-1.el{system}.x86_64.rpm has ")
        assert cut.endswith(" (mirror is being synchronised?)")
        assert reasons == {
            "keyed": f"key {theirs}... is not Docker's ({ours}...)",
            "stale": "primary.xml does not match repomd.xml (mirror is being synchronised?)",
            "gone": "HTTP 404: has no repodata",
            "old": f"docker-ce 29.7 is not there; newest is 3:28.5.2-1.el{system}; "
            f"docker-ce-cli 29.7.2-1 is not there; newest is 1:28.5.2-1.el{system}",
            "down": reasons["down"],
        }
        assert "closed" in reasons["down"].lower()


def test_a_version_that_nobody_has(fleet, made):
    found = probe(fleet, made, ["good"], {"docker-ce": "29.9.9", "docker-model": ""})
    for host, suffix in (("rocky9", "el9"), ("alma10", "el10")):
        (mirror,) = found[host]["mirrors"]
        reason = f"docker-ce 29.9.9 is not there; newest is 3:29.7.2-1.{suffix}; docker-model is not there"
        assert (mirror["serves"], mirror["reason"]) == (False, reason)
