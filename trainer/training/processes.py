"""Starts one command in several processes that train together, and ends all when one fails."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import ConfigError, TeamError

# By these Paddle's launcher tells a process its place, too.
COUNT, NUMBER, ADDRESS = "PADDLE_TRAINERS_NUM", "PADDLE_TRAINER_ID", "PADDLE_MASTER"
# Set for a process whose standard input ends when the one that started it does.
STARTED = "CROSSRANK_STARTED_TOGETHER"
# Exit status of one that has found another gone, and so is not the cause.
LOST_ANOTHER = 3
_INTERRUPTED = 130
_POLL_SECONDS = 0.1
# How long a process has to go by itself: when another failed, and when interrupted or ended.
_LEAVE_SECONDS, _STOP_SECONDS = 5.0, 30.0


@dataclass(frozen=True, slots=True)
class _Member:
    """One of the processes; `words` is the file of what it says, none for the first."""

    name: str
    popen: subprocess.Popen[bytes]
    words: Path | None

    @property
    def failed(self) -> bool:
        return self.popen.poll() not in (None, 0)

    @property
    def misses_another(self) -> bool:
        return self.popen.returncode == LOST_ANOTHER

    @property
    def ending(self) -> str:
        status = self.popen.returncode
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"

    @property
    def last_words(self) -> str:
        if self.words is None:
            return ""
        text = self.words.read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def is_placed(environment: Mapping[str, str]) -> bool:
    """Return whether this process has been told its place among others."""
    return environment.get(COUNT, "1") != "1"


def starts_others(count: int, environment: Mapping[str, str]) -> bool:
    """Return whether this process is to start `count` others, not having been started as one.

    Raises:
        ConfigError: When a launcher has started it as one of several already.
    """
    if count > 1 and is_placed(environment) and environment.get(STARTED) != "1":
        raise ConfigError(
            f"--processes: got {count} where {COUNT} is {environment[COUNT]}, want one of the two"
        )
    return count > 1 and not is_placed(environment)


def run_together(command: Sequence[str], count: int, environment: Mapping[str, str]) -> int:
    """Run `command` in `count` processes of this machine until all are done.

    They find each other by the variables of Paddle's launcher. The first one's output is this
    process's own; Ctrl-C reaches it alone, and the others go when it has gone. When this process
    is killed, all end.

    Returns:
        The exit status of the first process.

    Raises:
        TeamError: When another one has failed, with its last words.
    """
    place = {COUNT: str(count), ADDRESS: f"127.0.0.1:{_free_port()}", STARTED: "1"}
    members: list[_Member] = []
    with tempfile.TemporaryDirectory(prefix="trainer-") as folder, _ended_by_signal():
        try:
            for number in range(count):
                words = Path(folder) / f"{number}.txt" if number else None
                mine = {"GLOG_minloglevel": "2", **environment, **place, NUMBER: str(number)}
                popen = _start(command, mine, words)
                members.append(_Member(f"process {number} of {count}", popen, words))
            return _first_status(members)
        except KeyboardInterrupt:
            members[0].popen.send_signal(signal.SIGINT)
            if _wait(members[:1], _STOP_SECONDS) and members[0].popen.returncode == _INTERRUPTED:
                return _INTERRUPTED
            raise
        finally:
            _end(members)


def end_with_starter(environment: Mapping[str, str]) -> None:
    """Let this process end when the one that started it has been killed."""
    if environment.get(STARTED) == "1":
        threading.Thread(target=_end_at_end_of_input, daemon=True).start()


def _end_at_end_of_input() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)  # files are written whole or not at all


def _start(
    command: Sequence[str], environment: Mapping[str, str], words: Path | None
) -> subprocess.Popen[bytes]:
    with contextlib.ExitStack() as stack:
        told = None if words is None else stack.enter_context(words.open("wb"))
        return subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=told,
            stderr=told,
            start_new_session=True,  # signals of a terminal come from here
        )


def _first_status(members: Sequence[_Member]) -> int:
    """Return the first process's exit status, once it has ended and no other has failed."""
    first, others = members[0], members[1:]
    while first.popen.poll() is None and not any(member.failed for member in others):
        time.sleep(_POLL_SECONDS)
    _wait([first], _LEAVE_SECONDS)
    if first.failed and not first.misses_another:
        return _status_of(first)
    if first.popen.returncode is not None:
        _wait(others, _LEAVE_SECONDS)
    if first.popen.returncode == 0:
        return 0
    failed = [member for member in others if member.failed]
    cause = min(failed, key=lambda member: member.misses_another, default=None)
    if cause is None:
        return LOST_ANOTHER
    raise TeamError(_failure(cause))


def _status_of(first: _Member) -> int:
    """Return the exit status of a process that has told what is wrong, had it time to."""
    if first.popen.returncode < 0:
        raise TeamError(_failure(first))
    return first.popen.returncode


def _failure(member: _Member) -> str:
    words = member.last_words
    return (
        f"{member.name}: got {member.ending}{words and f' ({words})'}, want it at work until "
        f"training is done; the same command goes on from the last checkpoint"
    )


def _wait(members: Sequence[_Member], seconds: float) -> bool:
    """Return whether all have ended within some seconds."""
    latest = time.monotonic() + seconds
    while any(member.popen.poll() is None for member in members):
        if time.monotonic() > latest:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _end(members: Sequence[_Member]) -> None:
    """End what still runs, and return when it has ended."""
    for member in members:
        if member.popen.poll() is None:
            member.popen.terminate()
    if not _wait(members, _LEAVE_SECONDS):
        for member in members:
            member.popen.kill()
    for member in members:
        member.popen.wait()
        if member.popen.stdin is not None:
            member.popen.stdin.close()


@contextlib.contextmanager
def _ended_by_signal() -> Iterator[None]:
    """Let SIGTERM leave a block as an error does, so that no process stays behind."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
