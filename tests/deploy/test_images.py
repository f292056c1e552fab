from __future__ import annotations

import fnmatch
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trustme

from tests.deploy.tools import DEPLOY, ROOT, checked_by
from tests.rerank_server.tiny_bundle import write_tiny_bundle, write_tiny_store

DOCKERFILES = sorted(DEPLOY.glob("*.Dockerfile"))
SERVERS = ["server.Dockerfile", "server-gpu.Dockerfile"]


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return (instruction, arguments) of a Dockerfile, with continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def health_command(path: Path) -> list[str]:
    (health,) = [rest for word, rest in instructions(path) if word == "HEALTHCHECK"]
    command: list[str] = json.loads(health[health.index("CMD [") + 4 :])
    return command


def in_context(source: str) -> bool:
    """Say whether .dockerignore leaves a path in the context: the last pattern that fits wins."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and fnmatch.fnmatch(source, pattern):
            kept = line.startswith("!")
    return kept


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_every_copied_file_is_there_and_in_the_context(path: Path) -> None:
    for word, rest in instructions(path):
        if word == "COPY" and "--from=" not in rest:
            *sources, _ = rest.split()
            for source in sources:
                assert (ROOT / source).exists(), source
                assert in_context(source), source


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_pinned_and_runs_without_rights(path: Path) -> None:
    steps = instructions(path)
    versions = dict(rest.split("=", 1) for word, rest in steps if word == "ARG")
    for word, rest in steps:
        if word == "FROM" and ":" in rest:
            name, _, variable = rest.split()[0].partition(":")
            tag = versions[variable.strip("${}")]
            assert re.match(r"\d+\.\d+\.\d+", tag), f"{name}:{tag}"
    assert [rest for word, rest in steps if word == "USER"] == ["10001:10001"]
    assert "HEALTHCHECK" in dict(steps)
    installs = " ".join(rest for word, rest in steps if word == "RUN")
    assert "--require-hashes" in installs


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    checked_by("hadolint", path)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def check_health(command: list[str], environment: dict[str, str]) -> int:
    done = subprocess.run(
        [sys.executable, *command[1:]], env=environment, check=False, stderr=subprocess.DEVNULL
    )
    return done.returncode


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the server's settings name: a bundle, a product store and TLS files."""
    folder = tmp_path_factory.mktemp("served")
    bundle = write_tiny_bundle(folder / "bundle")
    write_tiny_store(folder / "products", bundle, folder / "snapshot")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(folder / "ca.crt")
    issued.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    issued.private_key_pem.write_to_path(folder / "tls.key")
    return {
        "RERANK_BUNDLE": str(folder / "bundle"),
        "RERANK_PRODUCTS": str(folder / "products"),
        "RERANK_TLS_CERTIFICATE": str(folder / "tls.crt"),
        "RERANK_TLS_KEY": str(folder / "tls.key"),
        "RERANK_TLS_CLIENT_CA": str(folder / "ca.crt"),
    }


@pytest.mark.parametrize("doors", ["clear text", "clients show certificates"])
def test_the_health_check_of_the_server_holds_with_and_without_tls(
    served: dict[str, str], doors: str
) -> None:
    kept = {
        name: value for name, value in served.items() if doors != "clear text" or "TLS" not in name
    }
    metrics_port = str(free_port())
    environment = os.environ | kept | {"RERANK_PORT": "0", "RERANK_METRICS_PORT": metrics_port}
    command = health_command(DEPLOY / "server.Dockerfile")
    assert check_health(command, environment) != 0
    server = subprocess.Popen(
        [sys.executable, "-m", "rerank_server", "serve"],
        env=environment,
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    try:
        until = time.monotonic() + 60
        while check_health(command, environment) != 0:
            assert server.poll() is None, server.stderr and server.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert server.returncode == 0
    assert check_health(command, environment) != 0


def test_both_server_images_are_asked_the_same() -> None:
    cpu, gpu = (health_command(DEPLOY / name) for name in SERVERS)
    assert cpu == gpu
