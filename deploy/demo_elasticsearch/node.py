"""Runs an Elasticsearch that keeps its data: `python -m deploy.demo_elasticsearch.node FOLDER`.

The server is the one that the tests start, fetched and unpacked on the first call. Its address is
the one line of standard output; SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

SETTINGS = {"cluster.name": "crossrank-demo"}
DATA = "elasticsearch"
BOOT_S = 600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C; the exit status is 0, or 1 after an error in one line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo_elasticsearch.node")
    parser.add_argument("folder", type=Path, help="keeps the data")
    folder: Path = parser.parse_args(arguments).folder
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    try:
        from tests.elasticsearch_installation import (  # noqa: PLC0415  a checkout has them
            ElasticsearchUnavailableError,
            find_runner,
        )
        from tests.elasticsearch_node import ElasticsearchBootError, start  # noqa: PLC0415
    except ImportError as error:
        sys.stderr.write(f"Elasticsearch: got no module {error.name!r}, want a checkout\n")
        return 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        runner = find_runner()
        prepare = partial(_own, data_folder(folder), runner.uid, runner.gid)
        settings = SETTINGS | {"path.data": str(data_folder(folder))}
        with start(settings=settings, prepare=prepare, boot_timeout_s=BOOT_S) as node:
            sys.stdout.write(f"{node.url}\n")
            sys.stdout.flush()
            done.wait()
    except (ElasticsearchUnavailableError, ElasticsearchBootError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    return 0


def data_folder(folder: Path) -> Path:
    """Return where the data of `folder` lies: in it, or, where only root may look, in the cache.

    The server does not run as root.
    """
    from tests.elasticsearch_installation import find_cache, find_runner  # noqa: PLC0415

    runner, data = find_runner(), (folder / DATA).absolute()
    if runner.may("-x", folder.absolute()):
        return data
    name = hashlib.sha256(str(data).encode()).hexdigest()[:8]
    return find_cache(runner) / f"demo-{name}"


def _own(data: Path, uid: int, gid: int, _: Path, __: dict[str, str]) -> None:
    """Make the folder of the data, and give it to the user that the server runs as."""
    data.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        for path in [data, *data.rglob("*")]:
            os.chown(path, uid, gid)


if __name__ == "__main__":
    sys.exit(main())
