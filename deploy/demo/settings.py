"""What the demo can be told on its command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import trainer
from deploy.demo.command import add_shared_options, check_port
from deploy.demo.errors import DemoSettingsError

CONFIG = Path(trainer.__file__).parent / "configs" / "demo.toml"


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """How the demo runs.

    Attributes:
        work: Folder of everything that is written; a second call reuses what is there.
        config: TOML file of the training run.
        port: Port of the page on 127.0.0.1; 0 takes a free one.
        elasticsearch: Address of the Elasticsearch that retrieves; None: the embedded index.
        sample: Most searches that are replayed.
        serve: Whether to serve the page at the end.
    """

    work: Path = Path("var/demo")
    config: Path = CONFIG
    port: int = 8080
    elasticsearch: str | None = None
    sample: int = 300
    serve: bool = True

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            PortError: When the port is none.
            DemoSettingsError: When another setting is out of range.
        """
        check_port(self.port)
        if self.sample < 1:
            raise DemoSettingsError(f"--sample: got {self.sample}, want 1 or more")


def read_settings(arguments: Sequence[str] | None) -> DemoSettings:
    """Read the command line; argparse ends the program on wrong usage.

    Raises:
        PortError: When the port is none.
        DemoSettingsError: When another setting is out of range.
    """
    default = DemoSettings()
    parser = argparse.ArgumentParser(
        prog="python -m deploy.demo",
        description="Trains on the Complete Journey groceries, exports, serves, retrieves, reranks,"
        " and shows the two orders side by side. A second call reuses what is done.",
    )
    parser.add_argument(
        "--elasticsearch",
        metavar="URL",
        help="retrieve with a real Elasticsearch, such as http://localhost:9200",
    )
    add_shared_options(parser, default)
    parser.add_argument(
        "--sample",
        type=int,
        default=default.sample,
        metavar="N",
        help="most searches that are replayed (default: %(default)s)",
    )
    given = parser.parse_args(arguments)
    return DemoSettings(
        work=given.work,
        config=given.config,
        port=given.port,
        elasticsearch=given.elasticsearch,
        sample=given.sample,
        serve=not given.no_serve,
    )
