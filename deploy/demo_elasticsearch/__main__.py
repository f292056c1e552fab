"""`make demo-elasticsearch`: one command from a bundle to a loop that has gone round once."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from deploy.demo.command import run_command
from deploy.demo_elasticsearch.settings import LoopDemoSettings, read_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit status, as `run_command` says."""
    logging.getLogger("elastic_transport").setLevel(logging.WARNING)  # else a line a request
    return run_command(
        "demo-elasticsearch", LoopDemoSettings().work, lambda: read_settings(arguments), _run
    )


def _run(settings: LoopDemoSettings) -> None:
    from deploy.demo_elasticsearch.steps import run_loop_demo  # noqa: PLC0415  usage first

    run_loop_demo(settings)


if __name__ == "__main__":
    sys.exit(main())
