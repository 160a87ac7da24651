# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ModelScope's hub: its listing by one GET of our own, its files by its own client in a virtual environment.

The listing is ours so that it is checked before a client acts on it. The files are the client's work: ranges, resume,
redirects to the storage behind the hub. What the client says is never trusted, the caller hashes every file.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from ansible_collections.llmops.fleet.plugins.module_utils._fs import (
    HostError,
    atomic_write,
    atomic_write_json,
)
from ansible_collections.llmops.fleet.plugins.module_utils._manifest import ModelFile

# (arguments, additional environment) -> (exit status, stdout, stderr)
Runner = Callable[[Sequence[str], Mapping[str, str]], "tuple[int, str, str]"]

CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")
MARK = "llmops-fleet-report:"
LISTING_BYTES = 64 * 1024 * 1024

# Run by the venv's interpreter, where only modelscope_hub is: nothing of ours is in it. Its options come in a file, the
# token in the environment.
CLIENT_PROGRAM = r"""
import ctypes, json, logging, signal, sys
try:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # end with the module that started us
except (AttributeError, OSError):
    pass
MARK = "llmops-fleet-report:"

def report(value):
    print(MARK + json.dumps(value), flush=True)

with open(sys.argv[1], encoding="utf-8") as stream:
    options = json.load(stream)
try:
    from modelscope_hub import DownloadRetryPolicy, HubApi
except ImportError as err:
    report({"fatal": "no usable modelscope_hub: %s" % err})
    sys.exit(3)
causes = {}

class Causes(logging.Handler):
    def emit(self, record):
        if str(record.msg).startswith("Download recovery for") and len(record.args) == 3:
            causes[str(record.args[0])] = str(record.args[1]).lstrip("_")

logging.getLogger("modelscope_hub").addHandler(Causes())
try:
    result = HubApi(endpoint=options["endpoint"]).download_repo_report(
        options["repo"], "model", revision=options["revision"], local_dir=options["local_dir"],
        file_list=options["files"], tracker_path=options["tracker"], max_workers=options["workers"], retry_failed=True,
        retry_policy=DownloadRetryPolicy(max_retries=options["retries"], recovery_timeout=600, idle_timeout=60,
                                         low_speed_window=60, max_retry_delay=60))
    files = {}
    for item in result.iter_files():
        if item.status != "VERIFIED":
            files[item.path] = {"status": item.status, "error": item.error, "cause": causes.get(item.path),
                                "type": (item.error_type or "").lstrip("_")}
    report({"status": result.status, "error": result.global_error, "files": files})
except Exception as err:
    report({"fatal": "%s: %s" % (type(err).__name__, err)})
    sys.exit(3)
""".replace("llmops-fleet-report:", MARK)


@dataclass(frozen=True)
class Source:
    """Where a model comes from and how to get there; str() is how messages name it."""

    endpoint: str
    repo: str
    revision: str
    token: str = field(default="", repr=False)
    ca_path: str = ""
    timeout: float = 60.0
    retries: int = 4
    retry_delay: float = 2.0

    def __str__(self) -> str:
        return f"modelscope {self.repo}@{self.revision} from {self.endpoint}"

    @property
    def ca_bundle(self) -> str:
        """The file of CAs to trust: the one named, else the system's, which knows a company's own."""
        return self.ca_path or next((path for path in CA_BUNDLES if os.path.exists(path)), "")


def http_problem(status: int) -> tuple[str, str]:
    """(code, what it means and what to do) of an HTTP status of the hub."""
    if status == 404:
        return "not_found", "404: no such model or revision on the hub; check repo and revision"
    if status == 401:
        return "auth", "401: the hub wants a valid token; set fleet_modelscope_token"
    if status == 403:
        return "auth", "403: the token has no access to this model; check its rights and the model's terms on the hub"
    if status == 429:
        return "rate_limited", "429: the hub limits our requests; try later or with a token"
    if status >= 500:
        return "network", f"{status}: the hub has an error of its own; try later or set another endpoint"
    return "network", f"{status}: unexpected answer; check the endpoint and the proxy"


def list_files(source: Source, sleep: Callable[[float], None] = time.sleep) -> Any:
    """The ``Data`` of the hub's listing of a revision. Errors that may pass are tried again."""
    for attempt in range(source.retries + 1):
        try:
            return _get_listing(source)
        except HostError as err:
            if err.code not in ("network", "rate_limited") or attempt == source.retries:
                raise
        sleep(min(60.0, source.retry_delay * 2**attempt))
    raise AssertionError("unreachable")


def _get_listing(source: Source) -> Any:
    query = urlencode({"Revision": source.revision, "Recursive": "True"})
    url = f"{source.endpoint}/api/v1/models/{quote(source.repo)}/repo/files?{query}"
    request = urllib.request.Request(url, headers={"Accept": "application/json", "User-Agent": "llmops.fleet"})
    if source.token:  # unredirected: it never follows a redirect to another host
        request.add_unredirected_header("Authorization", f"Bearer {source.token}")
        request.add_unredirected_header("Cookie", f"m_session_id={source.token}")
    try:
        context = ssl.create_default_context(cafile=source.ca_bundle or None)
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
        with opener.open(request, timeout=source.timeout) as answer:
            body = answer.read(LISTING_BYTES + 1)
    except urllib.error.HTTPError as err:
        raise HostError(*http_problem(err.code)) from None
    except (OSError, http.client.HTTPException, ValueError) as err:
        reason = getattr(err, "reason", None) or err
        problem = f"the hub can't be reached: {reason}; check the endpoint, fleet_proxy and fleet_ca_certificates"
        raise HostError("network", problem) from None
    if len(body) > LISTING_BYTES:
        raise HostError("network", f"the listing is larger than {LISTING_BYTES >> 20} MiB; check the endpoint")
    return _listing_data(body)


def _listing_data(body: bytes) -> Any:
    try:
        answer = json.loads(body)
    except ValueError:
        raise HostError("network", "the answer is not JSON, so this is no ModelScope hub; check the endpoint") from None
    if not isinstance(answer, Mapping):
        raise HostError("network", "the answer is not a listing, so this is no ModelScope hub; check the endpoint")
    if not answer.get("Success", True):
        raise HostError("network", f"the hub refuses the listing: {answer.get('Message') or 'no reason given'}")
    return answer.get("Data")


@dataclass(frozen=True)
class ClientResult:
    """What the client says about a run: per file that is not done, a code and a reason; never proof of success."""

    failed: Mapping[str, tuple[str, str]]
    error: tuple[str, str] | None = None


CODES = {
    "AuthenticationError": "auth",
    "PermissionDeniedError": "auth",
    "NotExistError": "not_found",
    "RateLimitError": "rate_limited",
    "FileIntegrityError": "integrity",
    "FileSizeMismatchError": "integrity",
    "DownloadDeadlineError": "timeout",
    "InvalidParameter": "unsafe_path",
}
REASONS = {
    "auth": "the hub refuses it (401 or 403); check the token and its rights",
    "not_found": "404: listed, but not on the hub",
    "rate_limited": "429: the hub limits our requests; try later or with a token",
    "timeout": "the time for one file is over",
    "no_space": "the disk became full",
    "network": "the connection failed or was cut, and tries without progress are used up; run it again to resume",
}


def classify(item: Mapping[str, Any]) -> tuple[str, str]:
    """(code, reason) of one failed file of the client's report."""
    kind = str(item.get("type") or "")
    if kind == "DownloadDeferredError":
        kind = str(item.get("cause") or "NetworkError")
    error = str(item.get("error") or "")
    code = "no_space" if "Errno 28" in error else CODES.get(kind, "network")
    if kind == "ServerError":
        return code, "the hub answers with errors of its own (5xx); try later"
    return code, REASONS.get(code, error)


def got_hash(reason: str) -> str:
    """The hash that the client saw, out of its message (its first digits), or ''."""
    found = re.search(r"got ([0-9a-f]{8,64})", reason)
    return found.group(1) if found else ""


def client_environment(source: Source, private: str) -> dict[str, str]:
    """The client's settings: nothing of the user's home is read or written, the hub is the one named, time is long."""
    environment = {
        "HOME": private,
        "MODELSCOPE_HOME": os.path.join(private, "home"),
        "MODELSCOPE_CACHE": os.path.join(private, "cache"),
        "MODELSCOPE_ENDPOINT": source.endpoint,
        "MODELSCOPE_API_TOKEN": source.token,
        "MODELSCOPE_DOWNLOAD_TOTAL_TIMEOUT": str(7 * 24 * 3600),
        "MODELSCOPE_DOWNLOAD_INTRA_CLOUD": "false",
        "MODELSCOPE_LOG_LEVEL": "WARNING",
        "TQDM_DISABLE": "1",
    }
    if source.ca_bundle:
        environment["REQUESTS_CA_BUNDLE"] = source.ca_bundle
    return environment


def run_client(
    source: Source, files: Sequence[ModelFile], directory: str, private: str, python: str, workers: int, run: Runner
) -> ClientResult:
    """One run of the hub's client: fetch ``files`` into ``directory``; its own state goes to ``private``."""
    if not os.access(python, os.X_OK):
        raise HostError("client", f"no hub client: {python} is not there; run the role llmops.fleet.model_store")
    options = {
        "endpoint": source.endpoint,
        "repo": source.repo,
        "revision": source.revision,
        "local_dir": directory,
        "tracker": os.path.join(private, "tracker.json"),
        "workers": workers,
        "retries": source.retries,
        "files": [{"Path": file.path, "Size": file.size, "Sha256": file.sha256, "Type": "blob"} for file in files],
    }
    os.makedirs(private, mode=0o700, exist_ok=True)
    program, settings = os.path.join(private, "client.py"), os.path.join(private, "options.json")
    atomic_write(program, CLIENT_PROGRAM.encode(), 0o600)
    atomic_write_json(settings, options, 0o600)
    arguments = [python, "-I", "-X", "utf8", program, settings]
    rc, out, err = run(arguments, client_environment(source, private))
    return parse_report(rc, out, err, source.token)


def parse_report(rc: int, out: str, err: str, token: str = "") -> ClientResult:
    """The report line of the client; whatever else it may have said is dropped, or is the reason of its failure."""
    line = next((line for line in reversed(out.splitlines()) if line.startswith(MARK)), "")
    try:
        value = json.loads(line[len(MARK) :])
        if "fatal" in value:
            raise ValueError(value["fatal"])
        files = {str(path): classify(item) for path, item in value["files"].items()}
        error = value.get("error")
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        tail = str(problem) if line else (err.strip().splitlines() or ["no output"])[-1]
        tail = tail.replace(token, "***") if token else tail
        raise HostError("client", f"the hub's client failed (exit status {rc}): {tail}") from None
    return ClientResult(files, classify({"error": error, "type": _error_type(str(error))}) if error else None)


def _error_type(error: str) -> str:
    return "AuthenticationError" if re.search(r"\b(401|403)\b|E3001|E3002", error) else ""


def bytes_below(directory: str) -> int:
    """Bytes of all files below a directory: the measure of progress between two runs of the client."""
    total = 0
    for root, _dirs, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except OSError:
                continue
    return total
