"""How a demo's command ends, in a process of its own: it sets signals and warnings for good."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# The settings are the work folder; what runs is the line put in.
PROGRAM = """
import os, signal, sys
from collections import namedtuple
from pathlib import Path
from deploy.demo.command import run_command
from deploy.demo.errors import ShopError
Settings = namedtuple("Settings", "work")
def run(settings):
    {line}
def read_settings():
    return Settings(Path(sys.argv[1]))
sys.exit(run_command("demo", Path("nowhere"), read_settings, run))
"""


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("return", 0, ""),
        ("raise ShopError('shop: got none,\\n want one')", 1, "demo: shop: got none, want one\n"),
        (
            "open(settings.work / 'no' / 'file', 'w')",
            1,
            "demo: {work}/no/file: got No such file or directory, want room and rights to write\n",
        ),
        (
            "1 / 0",
            1,
            "demo: a defect (ZeroDivisionError: division by zero); its traceback is in"
            " {work}/defect.log\n",
        ),
        (
            "os.kill(os.getpid(), signal.SIGTERM)",
            128 + 15,
            "demo: stopped; nothing is left running, the same command goes on from here\n",
        ),
    ],
    ids=["done", "named", "no folder", "defect", "signal"],
)
def test_what_ends_a_command_is_said_in_one_line_and_its_status(tmp_path, line, status, said):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("{line}", line), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, said.replace("{work}", str(tmp_path)))
    assert (tmp_path / "defect.log").exists() == (line == "1 / 0")
