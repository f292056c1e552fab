"""Starting, watching and ending processes, with commands that train nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.errors import ConfigError, TeamError
from trainer.training.processes import COUNT, LOST_ANOTHER, STARTED, run_together, starts_others

_ROOT = Path(__file__).parents[3]
_LONG = "import time; time.sleep(60)"
_PLACE = "import os; number = int(os.environ['PADDLE_TRAINER_ID'])\n"
_STARTER = """
import os, sys
from trainer.training.processes import run_together
try:
    sys.exit(run_together([sys.executable, "-c", sys.argv[1]], 2, os.environ))
except KeyboardInterrupt:
    sys.exit(99)
"""
_SAYS_SO = f"open(f'{{os.environ[\"HERE\"]}}/{{number}}', 'w').write(str(os.getpid()))\n{_LONG}"
_ENDS_WITH_STARTER = (
    "from trainer.training.processes import end_with_starter\nend_with_starter(os.environ)\n"
)


def _run(code: str, count: int = 2, **environment: str) -> int:
    return run_together([sys.executable, "-c", _PLACE + code], count, {**os.environ, **environment})


def test_each_is_told_its_place_and_the_first_one_speaks(tmp_path, capfd):
    told = "', '.join(os.environ[n] for n in ('PADDLE_TRAINERS_NUM', 'PADDLE_MASTER'))"
    code = f"text = {told}\nopen(f'{tmp_path}/{{number}}', 'w').write(text); print(number)"
    assert _run(code, 3) == 0
    texts = {(tmp_path / str(number)).read_text() for number in range(3)}
    assert len(texts) == 1
    assert texts.pop().startswith("3, 127.0.0.1:")
    assert capfd.readouterr().out == "0\n"


def test_the_first_ones_failure_is_the_status_and_ends_the_others():
    begun = time.monotonic()
    assert _run(f"import sys\nif number == 0: sys.exit(1)\n{_LONG}") == 1
    assert time.monotonic() - begun < 30


def test_another_that_is_killed_ends_all_and_is_named():
    begun = time.monotonic()
    with pytest.raises(TeamError, match=r"^process 1 of 2: got SIGKILL, want it at work"):
        _run(f"import signal\nif number == 1: os.kill(os.getpid(), signal.SIGKILL)\n{_LONG}")
    assert time.monotonic() - begun < 30


def test_the_first_that_is_killed_is_named():
    others = f"import sys; sys.exit({LOST_ANOTHER})"
    with pytest.raises(TeamError, match="process 0 of 2: got SIGKILL"):
        _run(f"import signal\nif number == 0: os.kill(os.getpid(), signal.SIGKILL)\n{others}")


def test_the_last_words_of_the_one_that_failed_are_told_and_not_of_one_that_misses_it():
    code = f"import sys; sys.exit([{LOST_ANOTHER}, {LOST_ANOTHER}, 'no room'][number])"
    with pytest.raises(TeamError, match=r"process 2 of 3: got exit status 1 \(no room\)"):
        _run(code, 3)


def _started(code: str, folder: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    """Return a process that started two others, and their ids."""
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTER, _PLACE + code],
        cwd=_ROOT,
        env={**os.environ, "HERE": str(folder)},
        start_new_session=True,
    )
    files = [folder / "0", folder / "1"]
    deadline = time.monotonic() + 60
    while not all(file.exists() and file.read_text() for file in files):
        assert starter.poll() is None
        assert time.monotonic() < deadline, "the two did not start"
        time.sleep(0.02)
    return starter, [int(file.read_text()) for file in files]


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        except FileNotFoundError:
            return True
        if state[0] == "Z":
            return True
        time.sleep(0.02)
    return False


def test_an_interruption_stops_the_first_as_it_stops_alone_and_ends_all(tmp_path):
    code = f"try:\n  {_SAYS_SO.replace(chr(10), '; ')}\nexcept KeyboardInterrupt: os._exit(130)"
    starter, pids = _started(code, tmp_path)
    starter.send_signal(signal.SIGINT)
    assert starter.wait(60) == 130
    assert all(_gone(pid) for pid in pids)


def test_sigterm_ends_all(tmp_path):
    starter, pids = _started(_SAYS_SO, tmp_path)
    starter.terminate()
    assert starter.wait(60) == 128 + signal.SIGTERM
    assert all(_gone(pid) for pid in pids)


def test_when_the_starter_is_killed_none_stays(tmp_path):
    starter, pids = _started(_ENDS_WITH_STARTER + _SAYS_SO, tmp_path)
    starter.kill()
    starter.wait()
    assert all(_gone(pid) for pid in pids)


def test_who_starts_others():
    assert starts_others(2, {})
    assert not starts_others(1, {})
    assert not starts_others(2, {COUNT: "2", STARTED: "1"})
    assert not starts_others(1, {COUNT: "2"})
    with pytest.raises(ConfigError, match="--processes: got 2 where PADDLE_TRAINERS_NUM is 4"):
        starts_others(2, {COUNT: "4"})
