"""What the two demos' commands share: options, and how the program begins and ends."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from deploy.demo.children import Stopped, end_forks_with_this_process, stop_on_signals
from deploy.demo.errors import PortError
from rerank_server.contract.errors import RerankError
from trainer.training.kernels import prefer_fast_kernels

_LARGEST_PORT = 65_535


class WorkSettings(Protocol):
    """Settings of a command that writes into one folder."""

    @property
    def work(self) -> Path:
        """Folder of everything that is written."""
        ...


class SharedOptions(WorkSettings, Protocol):
    """What both demos can be told."""

    @property
    def config(self) -> Path:
        """TOML file of the first training run."""
        ...

    @property
    def port(self) -> int:
        """Port of the page on 127.0.0.1."""
        ...


_Settings = TypeVar("_Settings", bound=WorkSettings)


def run_command(
    name: str,
    work: Path,
    read_settings: Callable[[], _Settings],
    run: Callable[[_Settings], None],
) -> int:
    """Run a command and return its exit status: 0 done, 1 an error it names, 2 wrong usage.

    A signal that ends it gives 128 + its number, as in a shell.

    Args:
        name: Begins every line of an error.
        work: Folder that takes a defect's traceback until the settings are read.
        read_settings: Reads the command line; argparse ends the program on wrong usage.
        run: Does what was asked.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # bars are of no use in a file
    prefer_fast_kernels(os.environ)
    stop_on_signals()
    end_forks_with_this_process()
    warnings.filterwarnings("ignore")  # of libraries; ours are errors in the tests
    try:
        settings = read_settings()
        work = settings.work
        run(settings)
    except Stopped as stopped:
        _complain(name, "stopped; nothing is left running, the same command goes on from here")
        return stopped.status
    except RerankError as error:
        _complain(name, str(error))
        return 1
    except OSError as error:
        path = error.filename or work
        _complain(name, f"{path}: got {error.strerror or error}, want room and rights to write")
        return 1
    except Exception as error:  # noqa: BLE001  a defect: one line here, the rest in a file
        _complain(name, f"a defect ({type(error).__name__}: {error}); {_keep_traceback(work)}")
        return 1
    return 0


def add_shared_options(parser: argparse.ArgumentParser, default: SharedOptions) -> None:
    """Add --port, --work, --config and --no-serve."""
    parser.add_argument(
        "--port",
        type=int,
        default=default.port,
        help="port of the page, 0 for a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=default.work,
        help="folder of everything that is written (default: %(default)s)",
    )
    parser.add_argument(
        "--config", type=Path, default=default.config, help="TOML file of another training run"
    )
    parser.add_argument(
        "--no-serve", action="store_true", help="end after the figures, without the page"
    )


def check_port(port: int) -> None:
    """Check the port of a page.

    Raises:
        PortError: It is none.
    """
    if not 0 <= port <= _LARGEST_PORT:
        raise PortError(f"--port: got {port}, want 0 to {_LARGEST_PORT}")


def _complain(name: str, text: str) -> None:
    """Write one line, whatever the text holds."""
    sys.stderr.write(f"{name}: {' '.join(text.split())}\n")


def _keep_traceback(work: Path) -> str:
    path = work / "defect.log"
    try:
        path.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError as error:
        return f"its traceback could not be written: {error.strerror}"
    return f"its traceback is in {path}"
