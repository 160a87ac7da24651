# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every bad input ends before a host changes, or leaves the host as it was, with one line that names the item."""

from __future__ import annotations

import json
import re

import pytest
import yaml


def service(index, **change):
    def apply(data):
        data["fleet_services"][index].update(change)

    return apply


def new_model(data, **change):
    """A model that no host has yet, used by the service embed."""
    data["fleet_models"].append(
        {"name": "fresh", "source": "modelscope", "repo": "llmops/all-MiniLM-L6-v2", "revision": "master", **change}
    )
    data["fleet_services"][1]["model"] = "fresh"


OPTIONS = ("--skip-tags", "verify", "--limit", "node2")


@pytest.fixture
def refused(fleet, variant):
    """refused(change, message): site.yml fails with a line like ``message``, and node2 is as it was."""

    def run(change, message, *arguments, untouched=True):
        before = fleet.state("node2")
        done = fleet.site(*OPTIONS, *arguments, inventory=variant(change))
        assert done.code != 0, done.output
        assert re.search(message, done.output), done.output
        assert fleet.state("node2") == before
        if untouched:
            assert sum(host["changed"] for host in done.recap.values()) == 0, done.output
        return done

    yield run
    fleet.hub()
    fleet.on("node2", "rm -rf /data/models/fresh /data/models/.staging/fresh")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (service(0, modle="x"), r"fleet_services\[0\]\.modle: unknown key; did you mean \"model\"\?"),
        (service(1, port=8101), r"fleet_services\[1\]\.port: 8101 is already the port of fleet_services\[0\]"),
        (service(1, model="gte"), r"fleet_services\[1\]\.model: no model named \"gte\"; known: minilm, smollm2"),
        (service(2, hosts="nowhere"), r"fleet_services\[2\]\.hosts: pattern \"nowhere\" matches no host"),
        (service(0, image="vllm/vllm-openai:latest"), r"fleet_services\[0\]\.image: .* has tag latest"),
        (service(0, gpus="two"), r"fleet_services\[0\]\.gpus: expected a count, .* got \"two\""),
        (lambda data: data.update(fleet_services="chat"), r"fleet_services: expected a list, got \"chat\""),
        (lambda data: data.pop("fleet_services"), r"fleet_services: empty"),
    ],
    ids=["unknown-key", "same-port", "no-such-model", "no-such-hosts", "latest", "gpus-two", "no-list", "nothing"],
)
def test_data(refused, change, message):
    refused(change, message)


def test_unreachable_host(fleet, variant, tmp_path):
    inventory = variant(lambda data: None)
    hosts = inventory / "hosts.yml"
    data = yaml.safe_load(hosts.read_text())
    prefix = next(iter(fleet.hosts.values())).rpartition(".")[0]
    data["sandbox"]["hosts"]["lost"] = {
        "ansible_host": f"{prefix}.250",
        "ansible_ssh_extra_args": "-o ConnectTimeout=3",
    }
    hosts.write_text(yaml.safe_dump(data))
    before = fleet.state("node2")
    done = fleet.site("--skip-tags", "verify", inventory=inventory)
    assert done.code != 0
    assert re.search(r"lost: .*unreachable over SSH", done.output), done.output
    assert fleet.state("node2") == before
    assert sum(host["changed"] for host in done.recap.values()) == 0


def test_unsupported_system(fleet, refused):
    fleet.on(
        "node2",
        "cp --remove-destination /usr/lib/os-release /etc/os-release; sed -i s/^ID=.*/ID=gentoo/ /etc/os-release",
    )
    try:
        refused(lambda data: None, r"node2: .* is not supported; supported are Debian 12, Debian 13")
    finally:
        fleet.on("node2", "ln -sf ../usr/lib/os-release /etc/os-release")


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ({"status": 404}, r"404: no such model or revision on the hub; check repo and revision"),
        ({"status": 401}, r"401: the hub wants a valid token; set fleet_modelscope_token"),
        ({"status": 500}, r"500: the hub has an error of its own"),
        ({"cut": {"model.safetensors": 0.5}}, r"model\.safetensors: the connection failed or was cut"),
        ({"corrupt": {"model.safetensors": 1000}}, r"model\.safetensors: .*sha256"),
    ],
    ids=["404", "401", "500", "cut", "corrupt"],
)
def test_hub(fleet, refused, faults, message):
    fleet.hub(**faults)
    # what was downloaded whole waits in staging for the next run; nothing that serves is touched
    refused(
        new_model, r'model "fresh" \(modelscope llmops/all-MiniLM-L6-v2@master from .*\): ' + message, untouched=False
    )


def test_no_space(refused):
    extra = json.dumps({"model_store_min_free": "900T"})
    refused(new_model, r'model "fresh" .*(space|free)', "-e", extra, untouched=False)


def test_registry_without_the_image(fleet, refused):
    image = f"{fleet.variables['sandbox_registry']}/llmops/none:1"
    refused(service(1, image=image), rf"node2: image {re.escape(image)} cannot be pulled: .*", untouched=False)


@pytest.mark.parametrize("replaces", [False, True], ids=["new-service", "replaces-a-working-one"])
def test_container_that_exits_at_once(fleet, refused, standin, variant, replaces):
    broken = standin(extra_env={"STANDIN_EXIT": "3"})
    if replaces:
        # state() compares ids: what was there comes back, as a new container of the same definition
        inventory = variant(lambda data: data["fleet_services"].append(standin()))
        assert fleet.site(*OPTIONS, inventory=inventory).code == 0
        label = '{{index .Config.Labels "llmops.fleet.definition"}}'
        digest = f"docker inspect -f '{label} {{{{.State.Running}}}}' llmops-fleet-extra-1"
        before = fleet.on("node2", digest)
        path = inventory / "group_vars/all/fleet.yml"
        data = yaml.safe_load(path.read_text())
        data["fleet_services"][-1] = broken
        path.write_text(yaml.safe_dump(data))
        done = fleet.site(*OPTIONS, inventory=inventory)
        assert done.code != 0
        assert "service extra exited with code 3" in done.output
        assert fleet.on("node2", digest) == before
        data["fleet_services"][-1]["state"] = "absent"
        path.write_text(yaml.safe_dump(data))
        assert fleet.site(*OPTIONS, inventory=inventory).code == 0
        return
    done = refused(
        lambda data: data["fleet_services"].append(broken),
        r"node2: service extra exited with code 3",
        untouched=False,
    )
    assert "last 30 lines of its log" in done.output


def test_container_that_never_becomes_healthy(refused, standin):
    sick = standin(extra_env={"STANDIN_NEVER_HEALTHY": "1"}, start_timeout=8)
    refused(
        lambda data: data["fleet_services"].append(sick),
        r"node2: service extra is not healthy after 8 s; raise start_timeout",
        untouched=False,
    )


def test_port_taken_by_another_process(fleet, refused, standin):
    fleet.on("node2", "systemd-run --collect --unit=squatter python3 -m http.server 8190 && sleep 1")
    try:
        refused(
            lambda data: data["fleet_services"].append(standin(port=8190)),
            r"node2: .*extra.*8190.*python3",
        )
    finally:
        fleet.on("node2", "systemctl stop squatter")
