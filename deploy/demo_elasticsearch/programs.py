"""Programs that the demo starts beside itself, and commands that it runs to their end."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

from deploy.demo_elasticsearch.errors import CommandFailedError, ProgramError

STOP_S = 40.0  # Elasticsearch closes its indices
SAY_EVERY_S = 12.0
_POLL_S = 0.1
_LAST_CHARACTERS = 400


class Program:
    """A Python module in a process of its own, that ends with this one; a context that ends it."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], log_path: Path) -> None:
        """Start it.

        Args:
            name: What errors call it.
            module: Run as by `python -m`.
            arguments: Of its command line.
            log_path: File that takes what it writes; what was in it goes.

        Raises:
            ProgramError: It cannot be started.
        """
        self.name = name
        self.log_path = log_path
        self.command = shown_command(module, arguments)
        self._process = _start(name, module, arguments, log_path)

    def __enter__(self) -> Self:
        """Return the program itself."""
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        """End it."""
        _stop(self._process)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll()

    def wait_for(
        self, found: Callable[[str], str | None], timeout_s: float, say: Callable[[str], None]
    ) -> str:
        """Return what `found` reads in a line of the log, once it reads something.

        Raises:
            ProgramError: The program ended, or wrote no such line in time.
        """
        begun = said = monotonic()
        while monotonic() - begun < timeout_s:
            for line in _lines(self.log_path):
                value = found(line)
                if value is not None:
                    return value
            if self.status is not None:
                raise ProgramError(
                    f"{self.name}: got exit status {self.status} ({_last(self.log_path)}), want"
                    f" it to serve; its log is {self.log_path}"
                )
            if monotonic() - said >= SAY_EVERY_S:
                said = monotonic()
                say(f"{self.name} has been starting for {said - begun:.0f} s")
            sleep(_POLL_S)
        raise ProgramError(
            f"{self.name}: got no address in {timeout_s:g} s, want it to serve; its log is"
            f" {self.log_path}"
        )


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ran to its end.

    Attributes:
        command: As a person would type it.
        seconds: Wall time.
        output: Its standard output.
    """

    command: str
    seconds: float
    output: str


def run_command(
    module: str, arguments: Sequence[str], log_path: Path, say: Callable[[str], None]
) -> Ran:
    """Run a Python module to its end, and say every twelve seconds that it still runs.

    Args:
        module: As by `python -m`; `rerank_server` is the command `crossrank`.
        arguments: Of its command line.
        log_path: File that takes its standard error.
        say: Told what goes on.

    Raises:
        CommandFailedError: It failed; the message is what it said last.
    """
    shown = shown_command(module, arguments)
    output = log_path.with_suffix(".out")
    begun = said = monotonic()
    process = _start(shown.split()[0], module, arguments, log_path, output)
    try:
        while process.poll() is None:
            if monotonic() - said >= SAY_EVERY_S:
                said = monotonic()
                last = _last(log_path)
                say(f"{said - begun:.0f} s" + (f": {last[:90]}" if last else ""))
            sleep(_POLL_S)
    finally:
        _stop(process)
    if process.returncode:
        raise CommandFailedError(
            f"`{shown[:120]}`: got exit status {process.returncode} ({_last(log_path)}), want 0;"
            f" its log is {log_path}"
        )
    return Ran(shown, monotonic() - begun, output.read_text(encoding="utf-8"))


def shown_command(module: str, arguments: Sequence[str]) -> str:
    """Return a command as a person would type it."""
    program = "crossrank" if module == "rerank_server" else f"python -m {module}"
    return f"{program} {shlex.join(arguments)}"


def _start(
    name: str,
    module: str,
    arguments: Sequence[str],
    log_path: Path,
    output_path: Path | None = None,
) -> subprocess.Popen[bytes]:
    watched = [sys.executable, "-W", "ignore", "-m", "deploy.demo.watched", str(os.getpid())]
    try:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("wb") as log, (output_path or Path(os.devnull)).open("wb") as output:
            return subprocess.Popen(
                [*watched, module, *arguments],
                stdin=subprocess.PIPE,  # held open for as long as this process lives
                stdout=log if output_path is None else output,
                stderr=log,
                env=_without_settings(os.environ),
                start_new_session=True,  # Ctrl-C is for the demo, which then ends its children
            )
    except OSError as error:
        raise ProgramError(f"{name}: got {error}, want it to start") from error


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, gracefully if it can be; returns when it is gone."""
    try:
        if process.poll() is None:
            process.terminate()
            process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _last(path: Path) -> str:
    return next((line for line in reversed(_lines(path)) if line.strip()), "").strip()[
        :_LAST_CHARACTERS
    ]


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Drop settings that are meant for another server, and bars, which are of no use in a file."""
    kept = {name: value for name, value in environment.items() if not name.startswith("RERANK_")}
    return kept | {"TQDM_DISABLE": "1"}
