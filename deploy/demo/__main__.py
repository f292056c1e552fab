"""`make demo`: one command from purchases to a page with two orders side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from deploy.demo.command import run_command
from deploy.demo.settings import DemoSettings, read_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit status, as `run_command` says."""
    return run_command("demo", DemoSettings().work, lambda: read_settings(arguments), _run)


def _run(settings: DemoSettings) -> None:
    from deploy.demo.steps import run_demo  # noqa: PLC0415  the usage comes first

    run_demo(settings)


if __name__ == "__main__":
    sys.exit(main())
