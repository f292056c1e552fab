"""No process outlives the demo: children are started, watched and ended, however we go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from deploy.demo.children import RerankServerProcess
from deploy.demo.errors import RerankServerError
from tests.rerank_server.tiny_bundle import write_tiny_bundle, write_tiny_store

ROOT = Path(__file__).parents[3]

# Starts a server, says who it is, and waits as the demo does while the page is shown.
PARENT = """
import sys, time
from pathlib import Path
from deploy.demo.children import RerankServerProcess, Stopped, stop_on_signals

stop_on_signals()
bundle, products, log = map(Path, sys.argv[1:])
try:
    with RerankServerProcess(bundle, products, log) as server:
        server.wait_until_serving()
        print(server.pid, flush=True)
        # in short naps: a signal just before a long one would be noticed only after it
        for _ in range(1200):
            time.sleep(0.1)
except Stopped as stopped:
    sys.exit(stopped.status)
"""

FORKING_PARENT = """
import multiprocessing, os, time
from deploy.demo.children import end_forks_with_this_process

def wait(pipe):
    pipe.send(os.getpid())
    time.sleep(120)

end_forks_with_this_process()
context = multiprocessing.get_context("fork")
ours, theirs = context.Pipe()
worker = context.Process(target=wait, args=(theirs,))
worker.start()
print(ours.recv(), flush=True)
time.sleep(120)
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("tiny")
    bundle = write_tiny_bundle(root / "bundle")
    write_tiny_store(root / "products", bundle, root / "snapshot")
    return root / "bundle", root / "products"


def is_running(pid: int) -> bool:
    """A zombie, which nobody has waited for yet, has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def ends(pid: int, timeout_s: float = 15) -> bool:
    until = time.monotonic() + timeout_s
    while is_running(pid):
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            return False
        time.sleep(0.05)
    return True


def start(program: str, *arguments: object) -> tuple[subprocess.Popen[str], int]:
    """The program and the number on its first line: the process that it started."""
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert parent.stdout is not None
    with parent.stdout as out:
        return parent, int(out.readline())


def test_a_server_serves_until_its_context_ends(folders, tmp_path):
    with RerankServerProcess(folders[0], folders[1], tmp_path / "server.log") as server:
        target = server.wait_until_serving()
        assert target.startswith("127.0.0.1:")
        assert server.status is None
        pid = server.pid
    assert server.status == 0
    assert not is_running(pid)
    assert '"message": "stopped"' in server.log_path.read_text()


def test_a_server_that_cannot_start_says_why_in_one_line(folders, tmp_path):
    bundle, _ = folders
    log = tmp_path / "server.log"
    with (
        RerankServerProcess(bundle, tmp_path / "nothing", log) as server,
        pytest.raises(
            RerankServerError, match=r"got exit status 1 \(crossrank: .*nothing"
        ) as caught,
    ):
        server.wait_until_serving()
    assert str(log) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_of_another_server_are_not_taken_over(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("RERANK_TIMEOUT", "5")  # unknown: a server that sees it refuses to start
    with RerankServerProcess(folders[0], folders[1], tmp_path / "server.log") as server:
        assert server.wait_until_serving()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_server_is_left_when_a_signal_ends_the_parent_alone(folders, tmp_path, number):
    parent, child = start(PARENT, *folders, tmp_path / "server.log")
    assert is_running(child)
    parent.send_signal(number)
    assert parent.wait(15) == (-number if number == signal.SIGKILL else 128 + number)
    assert ends(child)


def test_the_end_of_the_pipe_alone_ends_a_watched_module(folders, tmp_path):
    """What does it where the kernel sends no signal."""
    bundle, products = folders
    serve = ["rerank_server", "serve", "--port", "0", "--bundle", bundle, "--products", products]
    log = tmp_path / "server.log"
    with log.open("wb") as out:
        watched = subprocess.Popen(
            [sys.executable, "-m", "deploy.demo.watched", str(os.getpid()), *map(str, serve)],
            stdin=subprocess.PIPE,
            stderr=out,
            cwd=ROOT,
        )
    until = time.monotonic() + 30
    while '"serving"' not in log.read_text() and time.monotonic() < until:
        time.sleep(0.05)
    assert watched.poll() is None
    assert watched.stdin is not None
    watched.stdin.close()
    assert watched.wait(15) == 0


def test_a_watched_module_does_not_start_when_its_parent_is_gone():
    nobody = "1" if os.getpid() != 1 else "2"
    done = subprocess.run(
        [sys.executable, "-m", "deploy.demo.watched", nobody, "this"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux does it")
def test_forked_workers_die_with_a_killed_parent():
    parent, worker = start(FORKING_PARENT)
    assert is_running(worker)
    parent.kill()
    parent.wait(15)
    assert ends(worker)
