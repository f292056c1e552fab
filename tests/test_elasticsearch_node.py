from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_cluster/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.elasticsearch
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("elasticsearch_url")  # skips or fails once where it cannot be had
def test_no_server_outlives_the_command_however_it_ends(number):
    command = [sys.executable, "-m", "tests.elasticsearch_node"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert answers(url)
        process.send_signal(number)
        process.wait(40)
    deadline = time.monotonic() + 40
    while answers(url) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not answers(url)
