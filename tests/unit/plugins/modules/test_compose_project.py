# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module on real files. Docker's answers are a double here; a real engine answers in the sandbox's tests."""

from __future__ import annotations

import json
import stat

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.llmops.fleet.plugins.module_utils import _compose, _docker_api
from ansible_collections.llmops.fleet.plugins.modules import compose_project

SECRET = "correct horse"


def definition(**services):
    label = _compose.DEFINITION_LABEL
    return {
        "name": "llmops-fleet",
        "services": {
            name: {"image": image, "labels": {label: f"digest-of-{image}"}} for name, image in services.items()
        },
    }


@pytest.fixture
def run(tmp_path, capfd, monkeypatch):
    containers = []

    def get(_self, path, _params=None):
        assert path == "/containers/json"
        return containers

    monkeypatch.setattr(_docker_api.DockerAPI, "get", get)

    def call(check=False, **params):
        args = {"project_dir": str(tmp_path / "compose"), "_ansible_check_mode": check, **params}
        with patch_module_args(args), pytest.raises(SystemExit):
            compose_project.main()
        return json.loads(capfd.readouterr().out)

    call.directory = tmp_path / "compose"
    call.containers = containers
    return call


def container(name, image):
    labels = {
        "com.docker.compose.project": "llmops-fleet",
        "com.docker.compose.service": name,
        _compose.DEFINITION_LABEL: f"digest-of-{image}",
    }
    return {"Names": [f"/llmops-fleet-{name}-1"], "Id": name, "State": "running", "Status": "Up", "Labels": labels}


def test_first_run_writes_and_second_does_not(run):
    first = run(definition=definition(chat="a:1"))
    assert first["changed"] is True
    assert first["changed_services"] == ["chat"]
    assert first["start"] == ["chat"]
    assert yaml.safe_load((run.directory / "compose.yaml").read_text()) == definition(chat="a:1")
    run.containers.append(container("chat", "a:1"))
    again = run(definition=definition(chat="a:1"))
    assert (again["changed"], again["changed_services"], again["start"]) == (False, [], [])


def test_check_mode_writes_nothing_and_shows_the_diff(run):
    result = run(check=True, definition=definition(chat="a:1"))
    assert result["changed"] is True
    assert not run.directory.exists()
    assert "a:1" in result["diff"][0]["after"]
    assert result["diff"][0]["before"] == ""


def test_another_spelling_of_the_same_project_is_left_alone(run):
    run(definition=definition(chat="a:1"))
    path = run.directory / "compose.yaml"
    path.write_text("# mine\n" + json.dumps(definition(chat="a:1")))
    assert run(definition=definition(chat="a:1"))["changed"] is False
    assert path.read_text().startswith("# mine\n")


def test_only_the_changed_service_is_started(run):
    run(definition=definition(chat="a:1", embed="b:1"))
    run.containers.extend([container("chat", "a:1"), container("embed", "b:1")])
    result = run(definition=definition(chat="a:1", embed="b:2"))
    assert (result["changed_services"], result["start"]) == (["embed"], ["embed"])
    assert "b:1" in result["diff"][0]["before"]
    assert "b:2" in result["diff"][0]["after"]


def test_a_broken_file_is_written_anew(run):
    run(definition=definition(chat="a:1"))
    (run.directory / "compose.yaml").write_text("{")
    assert run(definition=definition(chat="a:1"))["changed"] is True
    assert yaml.safe_load((run.directory / "compose.yaml").read_text()) == definition(chat="a:1")


def test_no_service_left_removes_the_files_and_the_container(run):
    run(definition=definition(chat="a:1"), environment={"chat": {"T": SECRET}})
    run.containers.append(container("chat", "a:1"))
    result = run(definition={}, absent=["chat"])
    assert result["remove"] == ["chat"]
    assert result["containers"] == {"chat": "llmops-fleet-chat-1"}
    assert not (run.directory / "compose.yaml").exists()
    assert not (run.directory / ".env").exists()


def test_a_service_that_vanished_from_the_inventory_is_told_about(run):
    run.containers.append(container("old", "a:1"))
    result = run(definition=definition(chat="a:1"))
    assert result["orphans"] == ["old"]
    assert "service old runs, but fleet_services has it no more" in json.dumps(result["warnings"])


def test_secrets_are_written_0600_and_shown_nowhere(run):
    result = run(definition=definition(chat="a:1"), environment={"chat": {"T": SECRET}})
    env = run.directory / ".env"
    assert env.read_text() == f"SERVICE_CHAT_ENV_T='{SECRET}'\n"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert SECRET not in json.dumps(result)
    changed = run(definition=definition(chat="a:1"), environment={"chat": {"T": "another one"}})
    assert changed["changed"] is True
    assert "another one" not in json.dumps(changed)
    assert SECRET not in json.dumps(changed)
    assert "SERVICE_CHAT_ENV_T=(not shown, changed)" in json.dumps(changed["diff"])
    assert stat.S_IMODE((run.directory / ".env.previous").stat().st_mode) == 0o600


def test_services_are_taken_out_and_the_rest_stays(run):
    run(definition=definition(a="a:1", b="b:1"), environment={"a": {"T": "of a"}, "b": {"T": "of b"}})
    run.containers.extend([container("a", "a:1"), container("b", "b:1")])
    result = run(state="absent", absent=["a"])
    assert (result["remove"], result["services"], result["changed"]) == (["a"], ["b"], True)
    assert yaml.safe_load((run.directory / "compose.yaml").read_text()) == definition(b="b:1")
    assert (run.directory / ".env").read_text() == "SERVICE_B_ENV_T='of b'\n"
    run.containers.pop(0)
    assert run(state="absent", absent=["a"])["changed"] is False


def test_a_failed_deployment_is_taken_back_but_for_what_succeeded(run):
    run(definition=definition(a="a:1", b="b:1"), environment={"a": {"T": "old a"}, "b": {"T": "old b"}})
    run(definition=definition(a="a:2", b="b:2", c="c:2"), environment={"a": {"T": "new a"}, "b": {"T": "new b"}})
    run.containers.extend([container("a", "a:2"), container("b", "b:2"), container("c", "c:2")])
    result = run(state="restored", keep=["a"], absent=["a", "b", "c"])
    assert yaml.safe_load((run.directory / "compose.yaml").read_text()) == definition(a="a:2", b="b:1")
    assert (run.directory / ".env").read_text() == "SERVICE_A_ENV_T='new a'\nSERVICE_B_ENV_T='old b'\n"
    assert (result["start"], result["remove"]) == (["b"], ["c"])


def test_a_failed_first_deployment_leaves_no_file(run):
    run(definition=definition(a="a:1"))
    run.containers.append(container("a", "a:1"))
    result = run(state="restored", keep=[], absent=["a"])
    assert result["remove"] == ["a"]
    assert not (run.directory / "compose.yaml").exists()


def test_docker_that_does_not_answer(run, monkeypatch):
    def get(_self, _path, _params=None):
        raise _docker_api.DockerError("Docker does not answer on /run/x: No such file or directory")

    monkeypatch.setattr(_docker_api.DockerAPI, "get", get)
    assert run(check=True, definition=definition(a="a:1"))["start"] == ["a"]
    result = run(definition=definition(a="a:1"))
    assert result["failed"] is True
    assert "Docker does not answer" in result["msg"]
    assert not run.directory.exists()
