"""The trainer's commands: what each module holds, and that asking for help costs nothing."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from trainer.commands.registry import COMMANDS, read_commands

ROOT = Path(__file__).parents[3]
HEAVY = ("paddle", "lightgbm", "polars", "matplotlib", "optuna", "scipy", "pyarrow", "mlflow")


def test_every_command_has_a_name_of_its_own_a_line_of_help_and_options():
    commands = read_commands()
    names = [command.NAME for command in commands]
    assert len(set(names)) == len(names) == len(COMMANDS)
    for command in commands:
        assert command.HELP
        assert "\n" not in command.HELP
        assert not command.HELP.endswith(".")
        parser = argparse.ArgumentParser()
        command.add_options(parser)
        # an option of this name would take the command's place
        assert "run" not in {action.dest for action in parser._actions}
        assert callable(command.run)


def test_the_commands_of_a_first_run_come_in_the_order_in_which_they_are_run():
    names = [command.NAME for command in read_commands()]
    order = [names.index(name) for name in ("prepare", "train", "evaluate", "export")]
    assert order == sorted(order)


def test_asking_for_help_imports_nothing_heavy():
    asked = (
        "import sys\n"
        "from trainer.__main__ import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit:\n"
        f"    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    assert "usage: python -m trainer" in done.stdout
