"""The command line: reads it, runs the command it names, tells an error in one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from rerank_server.contract.errors import RerankError
from trainer.commands.registry import read_commands
from trainer.training.kernels import prefer_fast_kernels

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 is done, 1 an error that it has named on one line, 3 a training that lost another of its
    processes, 130 an interruption. A wrong command line leaves with 2, by `SystemExit`.
    """
    options = _parser().parse_args(arguments)
    prefer_fast_kernels(os.environ)
    try:
        return int(options.run(options))
    except RerankError as error:
        print(f"trainer: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = error.filename or getattr(options, "work", "a file")
        print(f"trainer: {where}: got {error.strerror or error}, want a folder with room to write",
              file=sys.stderr)  # fmt: skip
        return 1
    except KeyboardInterrupt:
        print("trainer: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer",
        description="Trains a reranker from a shop's log. Each command does what the ones before"
        " it would have done, and reads what an equal earlier call has left.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in read_commands():
        added = commands.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_options(added)
        added.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
