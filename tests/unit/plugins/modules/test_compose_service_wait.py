# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's answers are a double here, shaped as its API documents them; a real engine answers in the sandbox."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.llmops.fleet.plugins.module_utils import _docker_api
from ansible_collections.llmops.fleet.plugins.modules import compose_service_wait

LISTED = {
    "Names": ["/llmops-fleet-chat-1"],
    "Id": "c1",
    "State": "running",
    "Status": "Up",
    "Labels": {"com.docker.compose.project": "llmops-fleet", "com.docker.compose.service": "chat"},
}


def state(status="running", health=None, code=0, restarts=0, oom=False):
    inside = {"Status": status, "ExitCode": code, "OOMKilled": oom}
    if health:
        inside["Health"] = {"Status": health}
    return {"State": inside, "RestartCount": restarts}


@pytest.fixture
def run(capfd, monkeypatch):
    def call(states, listed=(LISTED,), **params):
        answers = iter(states)
        last = []

        def get(_self, path, _params=None):
            if path == "/containers/json":
                return list(listed)
            last[:] = [next(answers, last[0] if last else None)]
            return last[0]

        monkeypatch.setattr(_docker_api.DockerAPI, "get", get)
        monkeypatch.setattr(_docker_api.DockerAPI, "logs", lambda _self, _id, tail: "line 1\nOSError: no config\n")
        args = {"service": "chat", "interval": 0.001, "timeout": 5, **params}
        with patch_module_args(args), pytest.raises(SystemExit):
            compose_service_wait.main()
        return json.loads(capfd.readouterr().out)

    return call


def test_waits_until_it_is_healthy(run):
    result = run([state(health="starting"), state("created"), state(health="starting"), state(health="healthy")])
    assert result["container"] == "llmops-fleet-chat-1"
    assert result["changed"] is False


def test_a_container_without_healthcheck_serves_when_it_runs(run):
    assert run([state()])["container"] == "llmops-fleet-chat-1"


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ([state(health="starting"), state("exited", code=1)], "service chat exited with code 1"),
        ([state(health="starting"), state(health="starting", code=3, restarts=1)], "service chat exited with code 3"),
        ([state("restarting", code=137, oom=True)], "service chat exited with code 137 (out of memory)"),
        ([state(health="unhealthy")], "service chat is unhealthy"),
    ],
)
def test_failures_are_told_at_once_with_the_log(run, states, message):
    result = run(states, timeout=3600)
    assert result["failed"] is True
    assert result["msg"].splitlines() == [message, "last 2 lines of its log:", "line 1", "OSError: no config"]
    assert result["log"] == ["line 1", "OSError: no config"]


def test_restarts_of_long_ago_do_not_count(run):
    assert run([state(health="starting", restarts=2), state(health="healthy", restarts=2)])["changed"] is False


def test_timeout(run):
    result = run([state(health="starting")], timeout=0)
    assert result["msg"].startswith("service chat is not healthy after 0 s; raise start_timeout")


def test_no_container(run):
    assert run([], listed=[])["msg"] == "service chat has no container"
