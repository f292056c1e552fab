"""`train --processes 2` from the command line: killed, interrupted, gone on with, finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.trainer.conftest import TINY_CONFIG
from tests.trainer.small_runs import linked_work
from tests.trainer.stopped_runs import journal_of
from trainer.training.checkpoint import CHECKPOINT
from trainer.training.run_facts import read_run

pytestmark = pytest.mark.slow  # six processes that import Paddle, two at a time

KERNELS = os.environ.get("MKL_DEBUG_CPU_TYPE", "")
_SECONDS = 600


@pytest.fixture(scope="module")
def work(tiny_log, tmp_path_factory):
    return linked_work(tmp_path_factory.mktemp("together-work"), tiny_log)


def _start(work: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-m", "trainer", "train", "--processes", "2"]
    return subprocess.Popen(
        [*command, "--config", str(TINY_CONFIG), "--work", str(work)],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "MKL_DEBUG_CPU_TYPE": KERNELS},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait_for_checkpoint(started: subprocess.Popen[str], work: Path, newer_than: int) -> int:
    """Return when the run's checkpoint was written, in nanoseconds, once it is a newer one."""
    deadline = time.monotonic() + _SECONDS
    while True:
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < deadline, "no checkpoint came"
        for path in work.glob(f"runs/*/{CHECKPOINT}"):
            written = path.stat().st_mtime_ns
            if written > newer_than:
                return written
        time.sleep(0.01)


def _second_of(started: subprocess.Popen[str]) -> int:
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text(encoding="ascii")
    first, second = sorted(int(pid) for pid in children.split())
    assert first < second
    return second


def test_a_run_of_two_processes_is_stopped_gone_on_with_and_equals_that_of_one(work, tiny_run):
    started = _start(work)
    written = _wait_for_checkpoint(started, work, 0)
    os.kill(_second_of(started), signal.SIGKILL)
    _, errors = started.communicate(timeout=_SECONDS)
    assert started.returncode == 1
    assert "trainer: process 1 of 2: got SIGKILL" in errors
    assert "the same command goes on from the last checkpoint" in errors
    assert "Traceback" not in errors

    started = _start(work)
    _wait_for_checkpoint(started, work, written)
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=_SECONDS)
    assert started.returncode == 130
    assert errors.count("trainer: interrupted; the same command goes on from here") == 1
    assert "Traceback" not in errors

    started = _start(work)
    out, errors = started.communicate(timeout=_SECONDS)
    assert started.returncode == 0, errors
    state = tiny_run.result.progress
    assert f"step {state.step}, best validation NDCG@10 {state.best:.4f}" in out

    (folder,) = work.glob("runs/*")
    assert folder.name == tiny_run.folder.name
    assert not list(folder.rglob("*.unfinished*"))
    lines, twins = journal_of(folder), journal_of(tiny_run.folder)
    assert [line["step"] for line in lines] == [line["step"] for line in twins]
    for line, twin in zip(lines, twins, strict=True):
        assert line == pytest.approx(twin, abs=1e-4)
    facts = read_run(folder)
    assert [call.processes for call in facts.calls] == [2, 2, 2]
    assert facts.result is not None
    assert facts.config == json.loads((tiny_run.folder / "config.json").read_text())


def test_a_count_that_cannot_be_is_a_wrong_command_line(capsys):
    from trainer.__main__ import main  # noqa: PLC0415  it is for this test alone

    with pytest.raises(SystemExit, match="2"):
        main(["train", "--processes", "0"])
    assert "--processes: got '0', want 1 or more" in capsys.readouterr().err
