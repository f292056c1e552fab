"""What the demo of the loop can be told on its command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.command import add_shared_options, check_port
from deploy.demo.settings import CONFIG
from deploy.demo_elasticsearch.errors import LoopDemoSettingsError

_FEWEST_SEARCHES = 100


@dataclass(frozen=True, slots=True)
class LoopDemoSettings:
    """How the demo of the loop runs.

    Attributes:
        work: Folder of everything that it writes; a second call reuses what is there.
        demo: Work folder of `make demo`, whose bundle serves first; filled where it is empty.
        config: TOML file of the first training run.
        port: Port of the page on 127.0.0.1; 0 takes a free one.
        elasticsearch: Address of a running Elasticsearch; None starts one.
        searches: Of the simulated shoppers before the round of learning.
        shoppers: Households of the log that search.
        canary_percent: Share of the shoppers for the bundle that was learned.
        again: Whether to make new traffic and another round, though there is one.
        serve: Whether to serve the page at the end.
    """

    work: Path = Path("var/demo-elasticsearch")
    demo: Path = Path("var/demo")
    config: Path = CONFIG
    port: int = 8081
    elasticsearch: str | None = None
    searches: int = 1_200
    shoppers: int = 300
    canary_percent: float = 50.0
    again: bool = False
    serve: bool = True

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            PortError: When the port is none.
            LoopDemoSettingsError: When another setting is out of range.
        """
        check_port(self.port)
        if self.searches < _FEWEST_SEARCHES:
            raise LoopDemoSettingsError(
                f"--searches: got {self.searches}, want {_FEWEST_SEARCHES} or more"
            )
        if self.shoppers < 1:
            raise LoopDemoSettingsError(f"--shoppers: got {self.shoppers}, want 1 or more")


def read_settings(arguments: Sequence[str] | None) -> LoopDemoSettings:
    """Read the command line; argparse ends the program on wrong usage.

    Raises:
        PortError: When the port is none.
        LoopDemoSettingsError: When another setting is out of range.
    """
    default = LoopDemoSettings()
    parser = argparse.ArgumentParser(
        prog="python -m deploy.demo_elasticsearch",
        description="Starts a real Elasticsearch, indexes the catalogue, lets simulated shoppers"
        " search through the gateway, learns from their clicks, publishes what passes, and shows"
        " the loop on a page. A second call reuses what is done.",
    )
    parser.add_argument(
        "--elasticsearch", metavar="URL", help="a running one, in place of one that is started"
    )
    add_shared_options(parser, default)
    parser.add_argument(
        "--demo",
        type=Path,
        default=default.demo,
        help="work folder of `make demo`, whose bundle serves first (default: %(default)s)",
    )
    parser.add_argument(
        "--searches",
        type=int,
        default=default.searches,
        metavar="N",
        help="searches before the round of learning (default: %(default)s)",
    )
    parser.add_argument(
        "--shoppers",
        type=int,
        default=default.shoppers,
        metavar="N",
        help="households of the log that search (default: %(default)s)",
    )
    parser.add_argument(
        "--again", action="store_true", help="another round: new traffic, from what now serves"
    )
    given = parser.parse_args(arguments)
    return LoopDemoSettings(
        work=given.work,
        demo=given.demo,
        config=given.config,
        port=given.port,
        elasticsearch=given.elasticsearch,
        searches=given.searches,
        shoppers=given.shoppers,
        again=given.again,
        serve=not given.no_serve,
    )
