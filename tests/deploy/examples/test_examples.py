"""The examples of other languages, compiled and run against a real server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rerank_server.page import SearchPage
from rerank_server.reranker import Reranker
from tests.rerank_server.client.processes import ServerProcess
from tests.rerank_server.conftest import TinyFolders
from tests.rerank_server.tiny_bundle import write_tiny_bundle, write_tiny_store

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "deploy" / "examples"
IDS = ["dog-1", "milk-2", "milk-1"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> TinyFolders:
    root = tmp_path_factory.mktemp("tiny")
    made = TinyFolders(root / "bundle", root / "products", root / "snapshot")
    write_tiny_store(made.products, write_tiny_bundle(made.bundle), made.snapshot)
    return made


@pytest.fixture(scope="module")
def server(folders):
    process = ServerProcess(folders)
    yield process
    process.kill()


@pytest.fixture(scope="module")
def new_order(folders) -> list[str]:
    reranker = Reranker.open(folders.bundle, folders.products, threads=1)
    return list(reranker.rerank(SearchPage(IDS, query="milk")).candidate_ids)


def build(command: list[str], folder: Path, **environment: str) -> None:
    """Run a build; a registry that cannot be reached is a reason to skip, not to fail."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    output = done.stdout + done.stderr
    away = ("dial tcp", "no such host", "Could not transfer artifact", "UnknownHost", "i/o timeout")
    if done.returncode and any(word in output for word in away):
        pytest.skip(f"{command[0]}: got no package registry: {output[-200:]}")
    assert done.returncode == 0, output


def run(command: list[str], folder: Path) -> tuple[list[str], str]:
    """The product ids that the example printed, and what it said beside them."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return [line.split("\t")[0] for line in done.stdout.splitlines()], done.stderr


@pytest.fixture(scope="module")
def go_example(tmp_path_factory) -> Path:
    if shutil.which("go") is None:
        pytest.skip("go: got none on the path, want Go 1.26")
    folder: Path = tmp_path_factory.mktemp("go") / "example"
    shutil.copytree(EXAMPLES / "go", folder)
    protoc = f"{sys.executable} -m grpc_tools.protoc"
    build(["./generate.sh"], folder, PROTO=str(ROOT / "proto"), PROTOC=protoc)
    build(["go", "build", "-o", "rerank", "."], folder)
    return folder


@pytest.fixture(scope="module")
def java_example(tmp_path_factory) -> Path:
    if shutil.which("mvn") is None:
        pytest.skip("mvn: got none on the path, want Maven and a JDK")
    folder: Path = tmp_path_factory.mktemp("java") / "example"
    shutil.copytree(EXAMPLES / "java", folder, ignore=shutil.ignore_patterns("target"))
    build(["mvn", "-q", "-B", f"-Dproto.folder={ROOT / 'proto'}", "package"], folder)
    return folder


def test_go_gets_the_new_order(go_example, server, new_order):
    command = ["./rerank", "-server", server.address, "-query", "milk", "-timeout", "20s", *IDS]
    assert run(command, go_example) == (new_order, "")


def test_go_without_a_server_shows_retrieval_order(go_example):
    ids, reason = run(["./rerank", "-server", "localhost:1", *IDS], go_example)
    assert ids == IDS
    assert "retrieval order: " in reason


def java(server: str) -> list[str]:
    classes = "target/rerank-example-1.0.0.jar:target/dependency/*"
    return ["java", "-cp", classes, "com.example.rerank.Rerank", "-s", server, "-q", "milk"]


def test_java_gets_the_new_order(java_example, server, new_order):
    ids, _ = run([*java(server.address), "-t", "20000", *IDS], java_example)
    assert ids == new_order


def test_java_without_a_server_shows_retrieval_order(java_example):
    ids, reason = run([*java("localhost:1"), *IDS], java_example)
    assert ids == IDS
    assert "retrieval order: " in reason
