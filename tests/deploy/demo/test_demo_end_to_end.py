"""The whole demo on a tiny log: figures, reuse, the page, and every way it can be ended."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from rerank_server.contract.bundle import read_bundle

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "trainer" / "data" / "complete_journey_tiny"
RUN = """
name = "tiny"
log = "log.toml"
width = 16
hidden = [16]
rank = 1
heads = 2
epochs = {epochs}
"""
TIMEOUT_S = 400


def write_config(folder: Path, *, epochs: int = 1) -> Path:
    log = (DATA / "log.toml").read_text()
    assert 'folder = "."' in log
    (folder / "log.toml").write_text(log.replace('folder = "."', f'folder = "{DATA}"'))
    config = folder / "tiny.toml"
    config.write_text(RUN.format(epochs=epochs))
    return config


def command(work: Path, config: Path, *flags: str) -> list[str]:
    given = ["--work", str(work), "--config", str(config), *flags]
    return [sys.executable, "-m", "deploy.demo", *given]


def run_demo(work: Path, config: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(work, config, *flags),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=TIMEOUT_S,
        check=False,
    )


class Demo:
    """A demo that runs beside the test, its output in a file."""

    def __init__(self, work: Path, config: Path, *flags: str) -> None:
        self.output = work.parent / f"output-{time.monotonic_ns()}.txt"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                command(work, config, *flags),
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                start_new_session=True,
            )

    def wait_for(self, pattern: str) -> re.Match[str]:
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until:
            found = re.search(pattern, self.output.read_text())
            if found:
                return found
            assert self.process.poll() is None, self.output.read_text()
            time.sleep(0.02)
        self.process.kill()
        raise AssertionError(f"no {pattern!r} in {self.output.read_text()}")

    def end(self, number: int, *, group: bool = False) -> int:
        (os.killpg if group else os.kill)(self.process.pid, number)
        return self.process.wait(60)


def processes_of(work: Path) -> list[int]:
    """Processes that run and have the work folder on their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if str(work).encode() in line and state != "Z":
            found.append(int(entry.name))
    return found


def assert_nothing_runs(work: Path) -> None:
    until = time.monotonic() + 20
    while processes_of(work) and time.monotonic() < until:
        time.sleep(0.1)
    assert processes_of(work) == []


@dataclass(frozen=True)
class Done:
    work: Path
    config: Path
    first: str


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Done:
    """A demo that has run to the end of its figures."""
    folder = tmp_path_factory.mktemp("demo")
    config = write_config(folder)
    ended = run_demo(folder / "work", config, "--no-serve")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""  # no library's warning, no bar into a pipe
    return Done(folder / "work", config, ended.stdout)


def copy_of(done: Done, tmp_path: Path) -> Path:
    return shutil.copytree(done.work, tmp_path / "work", symlinks=True)


def test_every_step_is_shown_with_its_time(done):
    assert re.findall(r"^\[(\d)/8\]", done.first, re.MULTILINE) == list("12345678")
    assert len(re.findall(r"done in [\d.]+ s|done in \d+ min", done.first)) >= 8
    for said in ("rows in", "best validation NDCG@10", "LightGBM", "says SERVING"):
        assert said in done.first
    assert_nothing_runs(done.work)


def test_figures_before_and_after_are_written(done):
    figures = json.loads((done.work / "replay.json").read_text())
    assert figures["searches"] > 10
    assert figures["degraded"] == {}
    assert 0 <= figures["all"]["before"] <= 1
    assert figures["all"]["p95_ms"] >= figures["all"]["p50_ms"] > 0
    assert sum(row["searches"] for row in figures["categories"]) == figures["all"]["searches"]
    assert figures["bundle_id"] == read_bundle(done.work / "bundle").manifest.bundle_id


def test_the_server_ranks_the_logs_candidates_as_the_evaluation_did(done):
    """Most pages exactly; the evaluation alone knows sales of the days before a page."""
    agreement = json.loads((done.work / "replay.json").read_text())["agreement"]
    assert agreement["compared"] >= 10
    assert agreement["equal"] >= 0.5
    assert agreement["served"] == pytest.approx(agreement["offline"], abs=0.1)


def test_a_second_call_reuses_what_is_done(done):
    bundle = (done.work / "bundle" / "manifest.json").stat().st_mtime_ns
    again = run_demo(done.work, done.config, "--no-serve", "--sample", "5")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("reused:") == 2
    assert (done.work / "bundle" / "manifest.json").stat().st_mtime_ns == bundle
    assert "0 of 5 searches were answered in retrieval order." in again.stdout


def test_a_damaged_bundle_is_exported_again_from_the_trained_network(done, tmp_path):
    work = copy_of(done, tmp_path)
    graph = work / "bundle" / "scorer.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    again = run_demo(work, done.config, "--no-serve", "--sample", "5")
    assert again.returncode == 0, again.stderr
    assert "reused:" not in again.stdout
    read_bundle(work / "bundle")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_page_is_served_until_a_signal_and_nothing_is_left(done, tmp_path, number):
    work = copy_of(done, tmp_path)
    demo = Demo(work, done.config, "--port", "0", "--sample", "5")
    address = demo.wait_for(r"http://127\.0\.0\.1:\d+").group()
    shopper = httpx.get(f"{address}/api/shoppers").json()["shoppers"][0]["id"]
    page = httpx.get(f"{address}/api/page", params={"shopper": shopper, "surface": "home"}).json()
    assert len(page["candidates"]) > 1
    assert not page.get("degraded")
    assert httpx.get(f"{address}/report").status_code == 200
    assert len(processes_of(work)) == 2  # the demo and its server
    # Ctrl-C reaches the whole group, the others the demo alone
    status = demo.end(number, group=number == signal.SIGINT)
    assert status == {signal.SIGINT: 0, signal.SIGTERM: 0, signal.SIGKILL: -9}[number]
    assert "Traceback" not in demo.output.read_text()
    assert_nothing_runs(work)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_ended_while_it_trains_goes_on_from_its_checkpoint(tmp_path, number):
    config = write_config(tmp_path, epochs=15)
    work = tmp_path / "work"
    demo = Demo(work, config, "--no-serve")
    demo.wait_for(r"\[3/8\] Train")
    until = time.monotonic() + 120
    while not list(work.glob("runs/*/checkpoint.pdparams")) and time.monotonic() < until:
        time.sleep(0.01)
    status = demo.end(number)
    assert status == (-9 if number == signal.SIGKILL else 128 + number)
    output = demo.output.read_text()
    assert "Traceback" not in output
    assert "[4/8]" not in output, "ended too late to show anything"
    assert_nothing_runs(work)
    if number == signal.SIGKILL:
        again = run_demo(work, config, "--no-serve", "--sample", "5")
        assert again.returncode == 0, again.stdout + again.stderr
        assert "reused:" not in again.stdout


def test_a_demo_killed_while_it_encodes_leaves_no_worker(tmp_path):
    config = write_config(tmp_path)
    work = tmp_path / "work"
    demo = Demo(work, config, "--no-serve")
    until = time.monotonic() + 120
    while not list(work.glob(".encoded-*/dense.npy")) and time.monotonic() < until:
        time.sleep(0.005)
    assert demo.end(signal.SIGKILL) == -9
    assert_nothing_runs(work)


def test_a_taken_port_is_named_at_once_in_one_line(tmp_path):
    config = write_config(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run_demo(tmp_path / "work", config, "--port", str(port))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"demo: port {port}: got one that another program has")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "work").exists()


def test_an_elasticsearch_that_is_down_is_named_at_once(tmp_path):
    config = write_config(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    ended = run_demo(tmp_path / "work", config, "--no-serve", "--elasticsearch", url)
    assert ended.returncode == 1
    assert ended.stderr.startswith("demo: Elasticsearch: got")
    assert ended.stderr.count("\n") == 1
    assert "[1/8]" not in ended.stdout


def test_a_wrong_key_in_the_configuration_is_one_line(tmp_path):
    config = write_config(tmp_path)
    config.write_text(config.read_text() + "\nepoch = 2\n")
    ended = run_demo(tmp_path / "work", config, "--no-serve")
    assert ended.returncode == 1
    assert "epoch: got an unknown key" in ended.stderr
    assert "(nearest: epochs)" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.elasticsearch
def test_a_real_elasticsearch_retrieves_in_place_of_the_embedded_index(
    done, tmp_path, elasticsearch_url
):
    work = copy_of(done, tmp_path)
    flags = ("--no-serve", "--elasticsearch", elasticsearch_url)
    ended = run_demo(work, done.config, *flags)
    assert ended.returncode == 0, ended.stderr
    assert elasticsearch_url in ended.stdout
    ours = json.loads((done.work / "replay.json").read_text())
    theirs = json.loads((work / "replay.json").read_text())
    if ours["searches"] == theirs["searches"]:  # the sample of another test may be smaller
        assert theirs["all"]["before"] == pytest.approx(ours["all"]["before"])
