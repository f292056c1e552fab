"""The list of commands; a new one is a module of this package and a line here.

A command's module holds NAME, HELP, `add_options(parser)` and `run(options)`. It imports what is
heavy inside `run`, so that `--help` and a mistake in the command line answer at once.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Protocol, cast

# In the order in which a reader meets them.
COMMANDS = (
    "trainer.commands.prepare",
    "trainer.commands.train",
    "trainer.commands.pretrain",
    "trainer.commands.adapt",
    "trainer.commands.few_shot",
    "trainer.commands.evaluate",
    "trainer.commands.export",
    "trainer.commands.report",
    "trainer.commands.tune",
    "trainer.commands.ablate",
    "trainer.commands.cold_start",
    "trainer.commands.daily",
    "trainer.commands.modalities",
    "trainer.commands.explain",
    "trainer.commands.benchmark",
)


class Command(Protocol):
    """What a command's module holds.

    Attributes:
        NAME: What a user types.
        HELP: What it does, in one line.
    """

    NAME: str
    HELP: str

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's options."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it; return the exit status, 0 when it is done."""


def read_commands() -> list[Command]:
    """Import and return every command, in order."""
    return [cast(Command, import_module(module)) for module in COMMANDS]
