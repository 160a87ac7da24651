# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user does after the first run: look, repeat, edit, lose a container, add, stop and remove a service."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
import xml.etree.ElementTree as ElementTree

PROBES = {
    "chat": {"models_listed", "chat_answer", "chat_stream", "chat_tool_call", "chat_tool_auto"},
    "embed": {"models_listed", "embedding_dimension", "embedding_norm", "embedding_related_en"},
    "rerank": {"models_listed", "rerank_order"},
}


def containers(fleet, host):
    """{service: id} of the running containers."""
    out = fleet.on(host, "docker ps --no-trunc --format '{{.Label \"com.docker.compose.service\"}} {{.ID}}'")
    return dict(line.split() for line in out.splitlines())


def test_evidence_of_every_service_on_every_host(fleet):
    done = fleet.playbook("playbooks/verify_services.yml")
    assert done.code == 0, done.output
    assert all(host["changed"] == 0 for host in done.recap.values())
    rows = json.loads((fleet.reports / "evidence.json").read_text())["evidence"]
    for host in fleet.hosts:
        for service, probes in PROBES.items():
            seen = {row["probe"]: row for row in rows if (row["host"], row["service"]) == (host, service)}
            assert probes <= set(seen)
            assert [row for row in seen.values() if row["required"] and not row["ok"]] == []
    suites = ElementTree.parse(fleet.reports / "evidence.xml").getroot()
    assert {suite.get("name") for suite in suites.iter("testsuite")} >= set(fleet.hosts)


def test_probes_can_be_sent_from_the_controller(fleet):
    done = fleet.playbook("playbooks/verify_services.yml", "-e", "inference_service_probe_from=controller")
    assert done.code == 0, done.output
    evidence = json.loads((fleet.reports / "evidence.json").read_text())["evidence"]
    asked = {row["url"].split("/")[2].split(":")[0] for row in evidence}
    assert asked == set(fleet.hosts.values())


def test_a_client_on_the_network_gets_an_answer(fleet):
    for address in fleet.hosts.values():
        body = {"model": "chat", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
        request = urllib.request.Request(
            f"http://{address}:8101/v1/chat/completions",
            data=json.dumps({**body, "temperature": 0, "max_tokens": 20}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as response:
            assert "Paris" in json.load(response)["choices"][0]["message"]["content"]


def test_the_example_client(fleet):
    address = next(iter(fleet.hosts.values()))
    urls = [
        f"--{name}-url=http://{address}:{port}/v1" for name, port in (("chat", 8101), ("embed", 8102), ("rerank", 8103))
    ]
    done = subprocess.run(
        [sys.executable, "examples/demo.py", *urls, "--api-key", "none"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Paris" in done.stdout


def test_a_second_run_changes_nothing(fleet):
    done = fleet.site("--skip-tags", "verify")
    assert done.code == 0, done.output
    assert {host: counts["changed"] for host, counts in done.recap.items()} == dict.fromkeys(done.recap, 0)


def test_check_and_diff_show_exactly_the_service_that_was_edited(fleet, variant):
    def change(data):
        data["fleet_services"][1]["max_model_len"] = 128

    before = {host: containers(fleet, host) for host in fleet.hosts}
    done = fleet.site("--check", "--diff", "--skip-tags", "verify", inventory=variant(change))
    assert done.code == 0, done.output
    assert len(done.lines_with("embed: definition changed")) == len(fleet.hosts), done.output
    assert "chat: " not in "".join(done.lines_with("definition changed"))
    removed = {line for line in done.lines_with("-") if line.startswith("-  ")}
    added = {line for line in done.lines_with("+") if line.startswith("+  ")}
    assert any("'256'" in line for line in removed), done.output
    assert any("'128'" in line for line in added), done.output
    assert len(removed) == len(added) == 2  # the argument and the digest
    assert {host: containers(fleet, host) for host in fleet.hosts} == before


def test_a_container_killed_for_good_is_the_only_one_started_again(fleet):
    before = {host: containers(fleet, host) for host in fleet.hosts}
    fleet.on("node1", "docker rm -f llmops-fleet-embed-1")
    done = fleet.site()
    assert done.code == 0, done.output
    after = {host: containers(fleet, host) for host in fleet.hosts}
    assert after["node2"] == before["node2"]
    assert {name for name in before["node1"] if before["node1"][name] != after["node1"].get(name)} == {"embed"}
    rows = json.loads((fleet.reports / "evidence.json").read_text())["evidence"]
    assert all(row["ok"] for row in rows if row["required"])


def test_a_service_comes_stops_and_goes_and_nothing_else_does(fleet, variant, standin):
    def with_state(state):
        return variant(lambda data: data["fleet_services"].append(standin(state=state, port=8190)))

    before = containers(fleet, "node2")
    project = fleet.on("node2", "sha256sum < /opt/llmops-fleet/compose/compose.yaml")
    inventory = with_state("present")
    options = ("--skip-tags", "verify", "--limit", "node2")
    done = fleet.site(*options, inventory=inventory)
    assert done.code == 0, done.output
    assert set(containers(fleet, "node2")) == {*before, "extra"}
    assert fleet.site(*options, inventory=inventory).recap["node2"]["changed"] == 0

    (inventory / "group_vars/all/state.yml").write_text("")
    path = inventory / "group_vars/all/fleet.yml"
    present = path.read_text()
    path.write_text(present.replace("state: present", "state: stopped"))
    done = fleet.site(*options, inventory=inventory)
    assert done.code == 0, done.output
    assert containers(fleet, "node2") == before
    assert fleet.site(*options, inventory=inventory).recap["node2"]["changed"] == 0

    path.write_text(present.replace("state: present", "state: absent"))
    done = fleet.site(*options, inventory=inventory)
    assert done.code == 0, done.output
    assert containers(fleet, "node2") == before
    assert fleet.on("node2", "docker ps -aq --filter label=llmops.fleet.service=extra") == ""
    assert fleet.on("node2", "sha256sum < /opt/llmops-fleet/compose/compose.yaml") == project
    assert fleet.site(*options, inventory=inventory).recap["node2"]["changed"] == 0


def test_stop_and_remove_act_on_the_named_service_only(fleet, variant, standin):
    project = fleet.on("node2", "sha256sum < /opt/llmops-fleet/compose/compose.yaml")
    inventory = variant(lambda data: data["fleet_services"].append(standin()))
    before = containers(fleet, "node2")
    assert fleet.site("--skip-tags", "verify", "--limit", "node2", inventory=inventory).code == 0
    # a change that waits in the inventory is none of their business
    path = inventory / "group_vars/all/fleet.yml"
    path.write_text(path.read_text().replace("max_model_len: 256", "max_model_len: 128"))
    named = ("-e", '{"inference_service_names": ["extra"]}', "--limit", "node2")
    done = fleet.playbook("playbooks/stop_services.yml", *named, inventory=inventory)
    assert done.code == 0, done.output
    assert containers(fleet, "node2") == before
    assert fleet.on("node2", "docker ps -aq --filter label=llmops.fleet.service=extra") != ""
    assert fleet.playbook("playbooks/stop_services.yml", *named, inventory=inventory).recap["node2"]["changed"] == 0
    done = fleet.playbook("playbooks/remove_services.yml", *named, inventory=inventory)
    assert done.code == 0, done.output
    assert containers(fleet, "node2") == before
    assert fleet.on("node2", "docker ps -aq --filter label=llmops.fleet.service=extra") == ""
    assert fleet.on("node2", "sha256sum < /opt/llmops-fleet/compose/compose.yaml") == project
    assert fleet.playbook("playbooks/remove_services.yml", *named, inventory=inventory).recap["node2"]["changed"] == 0


def test_a_service_that_does_not_come_back_leaves_its_siblings_alone(fleet, variant, standin):
    inventory = variant(lambda data: data["fleet_services"].append(standin()))
    before = containers(fleet, "node2")
    options = ("--skip-tags", "verify", "--limit", "node2")
    assert fleet.site(*options, inventory=inventory).code == 0
    project = fleet.on("node2", "sha256sum < /opt/llmops-fleet/compose/compose.yaml")
    killer = "while sleep 0.2; do docker kill llmops-fleet-extra-1; done"
    fleet.on("node2", f"docker rm -f llmops-fleet-extra-1; systemd-run --collect --unit=killer sh -c '{killer}'")
    try:
        done = fleet.site(*options, inventory=inventory)
    finally:
        fleet.on("node2", "systemctl stop killer")
    assert done.code != 0
    assert "node2: service extra exited with code 137" in done.output
    assert containers(fleet, "node2") == before
    assert fleet.on("node2", "sha256sum < /opt/llmops-fleet/compose/compose.yaml") == project
    done = fleet.site(*options, inventory=inventory)
    assert done.code == 0, done.output
    assert set(containers(fleet, "node2")) == {*before, "extra"}
    path = inventory / "group_vars/all/fleet.yml"
    path.write_text(path.read_text().replace("name: extra", "name: extra\n  state: absent"))
    assert fleet.site(*options, inventory=inventory).code == 0
    assert containers(fleet, "node2") == before


def test_verify_by_fqcn_from_the_installed_artifact(fleet, tmp_path):
    built = fleet.run("ansible-galaxy", "collection", "build", "--output-path", tmp_path / "out")
    assert built.returncode == 0, built.stdout + built.stderr
    folder = tmp_path / "empty"
    folder.mkdir()
    (tmp_path / "ansible.cfg").write_text("[defaults]\n")  # neither this checkout's nor the user's own
    env = {"ANSIBLE_COLLECTIONS_PATH": str(folder), "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg")}
    artifact = next((tmp_path / "out").glob("*.tar.gz"))
    install = ("collection", "install", "--no-deps", "-p", folder, artifact)
    done = fleet.run("ansible-galaxy", *install, cwd=folder, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    done = fleet.playbook("llmops.fleet.verify_services", cwd=folder, **env)
    assert done.code == 0, done.output
    assert set(fleet.hosts) <= set(done.recap)
