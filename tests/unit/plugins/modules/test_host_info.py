# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

# Needs the whole collection: the models' state comes from the store's own code.
from ansible_collections.llmops.fleet.plugins.modules import host_info

FIXTURES = Path(__file__).parents[3] / "fixtures" / "hosts"


@pytest.fixture
def root():
    """A host's file system with nothing in it yet. Not tmp_path: a unix socket's path has at most 107 characters."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def put(root, path, content="", mode=0o644):
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content) if isinstance(content, bytes) else target.write_text(content)
    target.chmod(mode)
    return target


def script(root, path, body):
    return put(root, path, f"#!/bin/sh\n{body}\n", 0o755)


def observe(root, models=(), disk_paths=(), **kwargs):
    probe = host_info.HostProbe(str(root), "/opt/llmops-fleet", "/data/models", **kwargs)
    return probe.observe(list(models), list(disk_paths))


def test_an_empty_tree_is_a_host_with_nothing(root):
    host = observe(root)
    assert host["os"] == {"id": "", "version_id": "", "codename": "", "pretty_name": ""}
    assert (host["service_manager"], host["cgroup_version"]) == ("other", 1)
    assert (host["gpus"], host["gpu_error"], host["listening"]) == ([], None, [])
    assert host["docker"]["installed"] is False
    assert host["docker"]["error"] is None
    assert host["store"] == {"venv_ready": False, "venv_digest": None}
    assert list(host["errors"]) == ["listening"]  # no /proc at all


def test_the_running_machine_is_observed_without_an_error():
    host = observe("/")
    assert host["os"]["id"]
    assert host["memory"]["total"] > host["memory"]["available"] > 0
    assert (host["python"], host["cpus"]) == (sys.version.split()[0], os.cpu_count())
    assert host["errors"] == {}


def test_a_listener_of_this_process_is_found_with_its_owner():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (found,) = [entry for entry in observe("/")["listening"] if entry["port"] == port]
    assert (found["address"], found["pid"]) == ("127.0.0.1", os.getpid())
    assert found["process"] == Path("/proc/self/comm").read_text().strip()


def test_a_shared_listener_belongs_to_the_parent():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with subprocess.Popen(["sleep", "60"], pass_fds=[server.fileno()]) as child:
            found = [entry["pid"] for entry in observe("/")["listening"] if entry["port"] == port]
            child.kill()
    assert found == [min(os.getpid(), child.pid)]


def test_system_files_of_a_recorded_host(root):
    put(root, "/usr/lib/os-release", (FIXTURES / "debian-13/os-release").read_text())
    (root / "etc").mkdir()
    (root / "etc/os-release").symlink_to("../usr/lib/os-release")
    (root / "run/systemd/system").mkdir(parents=True)
    put(root, "/sys/fs/cgroup/cgroup.controllers")
    put(root, "/proc/net/tcp", (FIXTURES / "debian-12/proc-net-tcp").read_text())
    host = observe(root)
    assert host["os"]["codename"] == "trixie"
    assert (host["service_manager"], host["cgroup_version"]) == ("systemd", 2)
    assert [(entry["port"], entry["process"], entry["pid"]) for entry in host["listening"]] == [
        (18102, None, None),
        (18101, None, None),
    ]


def test_gpus_come_from_nvidia_smi(root):
    table = FIXTURES / "h100-x2/nvidia-smi-query.txt"
    script(root, "/usr/bin/nvidia-smi", f'echo "$*" > {root}/asked; grep -v -e ^[$] -e ^rc= {table}')
    host = observe(root)
    assert [gpu["index"] for gpu in host["gpus"]] == [0, 1]
    assert host["gpu_error"] is None
    assert (root / "asked").read_text() == "--query-gpu=index,uuid,name,memory.total --format=csv\n"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "exits with 18: Failed to init"),
        (
            "echo 'NVIDIA-SMI has failed because it' >&2; echo 'could not' >&2; exit 9",
            "exits with 9: NVIDIA-SMI has fa",
        ),
        ("exec sleep 60", "gave no answer within 0.2 s"),
    ],
)
def test_a_broken_driver_is_an_error_text(root, body, words):
    script(root, "/usr/bin/nvidia-smi", body)
    host = observe(root, smi_timeout=0.2)
    assert host["gpus"] == []
    assert words in host["gpu_error"]


def test_a_program_that_cannot_be_executed_is_an_error_text(root):
    put(root, "/usr/bin/nvidia-smi", b"\x7fELF nonsense", 0o755)
    assert "does not run" in observe(root)["gpu_error"]


def test_disk_of_a_path_that_does_not_exist_is_that_of_its_parent(root):
    (root / "var/lib").mkdir(parents=True)
    put(root, "/etc/docker/daemon.json", '{"data-root": "/srv/docker"}')
    disks = observe(root, disk_paths=["/var/lib/x/y"])["disks"]
    assert {path: disk["path_checked"] for path, disk in disks.items()} == {
        "/var/lib/x/y": "/var/lib",
        "/srv/docker": "/",
        "/data/models": "/",
    }
    assert all(0 < disk["free"] <= disk["total"] for disk in disks.values())


def test_docker_that_does_not_run(root):
    script(root, "/usr/sbin/dockerd", "")
    put(root, "/var/lib/dpkg/status", (FIXTURES / "debian-12/dpkg-status").read_text())
    docker = observe(root)["docker"]
    assert (docker["installed"], docker["active"], docker["package"]) == (True, False, "docker.io")
    assert docker["error"].startswith("Docker does not answer on ")


@pytest.mark.parametrize(
    ("folder", "body", "expected"),
    [
        ("/usr/libexec/docker/cli-plugins", 'test "$*" = "version --short" && echo 2.26.1-4', "2.26.1"),
        ("/usr/local/lib/docker/cli-plugins", "echo v5.5.0", "5.5.0"),
        ("/usr/lib/docker/cli-plugins", "echo oops; exit 1", None),
    ],
)
def test_compose_says_its_version_itself(root, folder, body, expected):
    script(root, f"{folder}/docker-compose", body)
    assert observe(root)["docker"]["compose_version"] == expected


def test_daemon_json_and_the_record_of_our_keys(root):
    put(root, "/etc/docker/daemon.json", '{"debug": true, "live-restore": true}')
    put(root, "/opt/llmops-fleet/docker/daemon.owned.json", '{"values": {"live-restore": true}}')
    put(root, "/etc/systemd/system/docker.service.d/llmops-fleet-proxy.conf", "x")
    docker = observe(root)["docker"]
    assert docker["daemon_config"] == {"debug": True, "live-restore": True}
    assert docker["daemon_config_owned"] == ["live-restore"]
    assert docker["daemon_config_record"] == {"live-restore": True}
    assert docker["dropins"] == {"llmops-fleet-proxy.conf": hashlib.sha256(b"x").hexdigest()}


@pytest.mark.parametrize("text", ['{"a": 1,}', "[]", '{"a"'])
def test_broken_daemon_json_is_an_error_text(root, text):
    put(root, "/etc/docker/daemon.json", text)
    docker = observe(root)["docker"]
    assert docker["daemon_config"] is None
    assert docker["daemon_config_error"].startswith("/etc/docker/daemon.json ")


@pytest.mark.parametrize("text", ["junk", "[]", '{"values": 3}'])
def test_a_broken_record_counts_as_none(root, text):
    put(root, "/opt/llmops-fleet/docker/daemon.owned.json", text)
    docker = observe(root)["docker"]
    assert (docker["daemon_config_owned"], docker["daemon_config_record"]) == ([], None)


class DockerDouble(BaseHTTPRequestHandler):
    """A double of dockerd that replays what Docker 26.1 (containers) and 20.10 (the rest) answered."""

    ANSWERS = {  # noqa: RUF012
        "/_ping": b"OK",
        "/version": (FIXTURES / "debian-12/docker-version.json").read_bytes(),
        "/images/json": (FIXTURES / "debian-12/docker-images.json").read_bytes(),
        "/containers/json?all=1": (FIXTURES / "debian-13/docker-containers.json").read_bytes(),
    }

    def do_GET(self):
        body = self.ANSWERS.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def address_string(self):
        return "unix"

    def log_message(self, *args):
        pass


@pytest.fixture
def dockerd(root):
    script(root, "/usr/bin/dockerd", "")
    (root / "var/run").mkdir(parents=True)
    with socketserver.ThreadingUnixStreamServer(str(root / "var/run/docker.sock"), DockerDouble) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield
        server.shutdown()
        thread.join()


def test_docker_that_runs(root, dockerd):
    docker = observe(root)["docker"]
    assert (docker["active"], docker["version"], docker["error"]) == (True, "20.10.24+dfsg1", None)
    assert docker["images"] == ["example/stand-in:1"]
    assert {entry["name"]: (entry["service"], entry["health"], entry["ports"]) for entry in docker["containers"]} == {
        "llmops-fleet-chat-1": ("chat", "healthy", [{"address": "127.0.0.1", "port": 8101}]),
        "llmops-fleet-embed-1": ("embed", "unhealthy", []),
        "someone": (None, None, [{"address": "0.0.0.0", "port": 8102}]),
    }


def test_an_answer_of_docker_that_makes_no_sense_is_an_error_text(root, dockerd, monkeypatch):
    monkeypatch.setitem(DockerDouble.ANSWERS, "/version", b"[1]")
    host = observe(root)
    assert host["docker"]["active"] is False
    assert "docker" in host["errors"]


def test_certificates_by_their_digest(root):
    put(root, "/usr/local/share/ca-certificates/company.crt", "pem")
    put(root, "/usr/local/share/ca-certificates/README", "no certificate")
    assert observe(root)["ca_certificates"] == {"company.crt": hashlib.sha256(b"pem").hexdigest()}


def test_store_is_ready_with_digest_and_interpreter(root):
    put(root, "/opt/llmops-fleet/venv/.llmops-digest", "abc\n")
    assert observe(root)["store"] == {"venv_ready": False, "venv_digest": "abc"}
    script(root, "/opt/llmops-fleet/venv/bin/python", "")
    assert observe(root)["store"] == {"venv_ready": True, "venv_digest": "abc"}


def test_models_are_looked_up_in_the_store(root):
    model = {"name": "m", "source": "modelscope", "repo": "a/b", "revision": "v1", "include": [], "exclude": []}
    status = observe(root, models=[model])["models"]["m"]
    assert status["present"] is False
    assert status["reason"]


def test_one_broken_section_leaves_the_others_whole(root, monkeypatch):
    put(root, "/etc/os-release", (FIXTURES / "debian-12/os-release").read_text())

    def broken(*_args):
        raise RuntimeError("the store fell over")

    monkeypatch.setattr(host_info, "model_status", broken)
    host = observe(root, models=[{"name": "m"}])
    assert host["os"]["id"] == "debian"
    assert (host["models"], host["errors"]["models"]) == ({}, "RuntimeError: the store fell over")


def test_the_module_itself_runs_and_changes_nothing(root):
    put(root, "/etc/os-release", (FIXTURES / "debian-12/os-release").read_text())
    before = sorted(str(path) for path in root.rglob("*"))
    arguments = {"ANSIBLE_MODULE_ARGS": {"root": str(root), "models_dir": "/m", "_ansible_check_mode": True}}
    if importlib.util.find_spec("ansible.module_utils.testing"):  # ansible-core 2.19 wants a serialisation profile
        program = (
            "import json,sys;from ansible.module_utils.testing import patch_module_args\n"
            f"from {host_info.__name__} import main\n"
            "with patch_module_args(json.load(sys.stdin)['ANSIBLE_MODULE_ARGS']): main()"
        )
    else:
        program = f"from {host_info.__name__} import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(arguments),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(result.stdout)
    assert answer["changed"] is False
    assert answer["host"]["os"]["id"] == "debian"
    assert "/m" in answer["host"]["disks"]
    assert sorted(str(path) for path in root.rglob("*")) == before
