"""The whole loop on a tiny log and a real Elasticsearch: once round, reused, and ended."""

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
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from deploy.demo_elasticsearch.node import data_folder
from tests.deploy.demo.test_demo_end_to_end import assert_nothing_runs, write_config

ROOT = Path(__file__).parents[3]
SEARCHES = 240
TIMEOUT_S = 900


class LoopDemo:
    """A demo of the loop that runs beside the test, its output in a file."""

    running: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, folder: Path, config: Path, *flags: str) -> None:
        self.output = folder / f"output-{time.monotonic_ns()}.txt"
        given = ["--work", str(folder / "loop"), "--demo", str(folder / "demo")]
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.demo_elasticsearch", *given,
                 "--config", str(config), "--searches", str(SEARCHES), *flags],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                start_new_session=True,
            )  # fmt: skip
        LoopDemo.running.append(self.process)

    def wait_for(self, pattern: str) -> str:
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until:
            found = re.search(pattern, self.output.read_text())
            if found:
                return found.group()
            assert self.process.poll() is None, self.output.read_text()
            time.sleep(0.05)
        self.process.kill()
        raise AssertionError(f"no {pattern!r} in {self.output.read_text()}")


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    while LoopDemo.running:  # a test that failed has ended none
        process = LoopDemo.running.pop()
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    shutil.rmtree(data_folder(tmp_path / "loop" / "node"), ignore_errors=True)


@pytest.mark.slow
@pytest.mark.elasticsearch
def test_the_loop_goes_round_once_on_a_real_elasticsearch(folder):
    demo = LoopDemo(folder, write_config(folder), "--port", "0")
    address = demo.wait_for(r"http://127\.0\.0\.1:\d+(?=  \(Ctrl-C)")
    page = httpx.get(f"{address}/").text
    work = folder / "loop"
    done = json.loads((work / "done.json").read_text())
    assert (work / "loop.html").read_text() == page
    assert done["learned"]["decision"] in ("canary", "rejected")
    assert done["learned"]["candidate"]["started_from"].startswith(str(folder / "demo" / "runs"))
    arms = {row["name"] for row in done["quality"]["quality"] if row["group"] == "variant"}
    assert {"retrieval", "current"} <= arms <= {"retrieval", "current", "canary"}
    assert ("canary" in arms) == (done["learned"]["decision"] == "canary")
    for said in (
        "Elasticsearch alone",
        "from the serving weights",
        "crossrank simulate",
        "rejected",
    ):
        assert said in page or said == "rejected"
    assert len(list((work / "pictures").glob("*.png"))) == 6
    assert httpx.get(f"{address}/pictures/crossrank-quality.png").status_code == 200

    truths = [
        json.loads(line) for line in (work / "truth-1-traffic.jsonl").read_text().splitlines()
    ]
    assert len(truths) > 0.9 * SEARCHES
    assert {each["arm"] for each in truths} == {"retrieval", "current"}

    words = done["examples"][0]["words"]
    shopper = done["examples"][0]["shopper"]
    found = httpx.get(
        f"{address}/api/search", params={"shopper": shopper, "words": words}, timeout=30
    ).json()
    assert [each["id"] for each in found["retrieval"]]
    refused = httpx.get(f"{address}/api/search", params={"shopper": "x", "words": words})
    assert refused.status_code == 400
    assert "want 0 to" in refused.json()["error"]

    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.process.wait(60) == 0
    assert "Traceback" not in demo.output.read_text()
    assert_nothing_runs(folder)


def test_a_taken_port_is_named_at_once_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        demo = LoopDemo(tmp_path, tmp_path / "none.toml", "--port", str(port))
        assert demo.process.wait(60) == 1
    said = demo.output.read_text()
    assert said.startswith(f"demo-elasticsearch: port {port}: got one that another program has")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--port", "70000"), "--port: got 70000, want 0 to 65535"),
        (("--searches", "3"), "--searches: got 3, want 100 or more"),
    ],
)
def test_a_setting_out_of_range_is_one_line(tmp_path, flags, complaint):
    demo = LoopDemo(tmp_path, tmp_path / "none.toml", *flags)
    assert demo.process.wait(60) == 1
    assert demo.output.read_text() == f"demo-elasticsearch: {complaint}\n"
