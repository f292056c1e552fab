"""Processes of one server that are killed at random moments while products change.

    python -m tests.rerank_server.processes.killed_processes --kills 50

A server of two processes runs all the time; a client changes products over connections that the
kernel deals out, and remembers what was acknowledged, while one process after the other gets
SIGKILL and is started anew. Then every acknowledged change is in the log, of those under way all
or nothing, and every process gives the scores that a reranker opened on the log gives.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from rerank_server.page import SearchPage
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.admin_pb2_grpc import AdminServiceStub
from rerank_server.pb.rerank_pb2_grpc import RerankServiceStub
from rerank_server.product_changes import ChangeLog
from tests.rerank_server.changing import open_live, version_of
from tests.rerank_server.killed_server import NAMES, Acknowledged, Folders, change
from tests.rerank_server.processes.group import CONNECTIONS, Group, serve_group
from tests.rerank_server.tiny_bundle import NOW, write_tiny_bundle, write_tiny_store


@dataclass
class Kills:
    """What the rounds came to."""

    kills: int = 0
    acknowledged: int = 0
    under_way_there: int = 0
    under_way_not_there: int = 0


def kill_again_and_again(group: Group, folders: Folders, changes: Path, kills: int) -> Kills:
    """Kill one process `kills` times while products change, and check what all show after each."""
    chance, known, seen = random.Random(0), Acknowledged(), Kills()
    serving = group.count("process serving")
    for kill in range(1, kills + 1):
        victim = chance.choice(group.children())
        killer = threading.Timer(chance.uniform(0.05, 0.6), os.kill, (victim, signal.SIGKILL))
        killer.start()
        while killer.is_alive() or known.under_way:
            with group.channel() as channel:
                if not change(AdminServiceStub(channel), chance, known):
                    _find_out(known, changes, seen)
        group.wait_for("process serving", serving + kill)
        _check(group, folders, changes, known)
        seen.kills = kill
    seen.acknowledged = known.changes
    return seen


def _find_out(known: Acknowledged, changes: Path, seen: Kills) -> None:
    """Read in the log what became of the change whose acknowledgement never came."""
    log = ChangeLog(changes)
    found = {}
    for item in log.read(0, 1_000_000):
        if item.product_id not in known.under_way:
            continue
        record = json.loads(item.record) if item.record else {"columns": {"price": 0}}
        found[item.product_id] = int(record["columns"]["price"])
    log.close()
    got = {name: found.get(name, 0) for name in known.under_way}
    before = {name: known.versions.get(name, 0) for name in known.under_way}
    assert got in (known.under_way, before), (got, known.under_way, before)
    if got == known.under_way:
        seen.under_way_there += 1
    else:
        seen.under_way_not_there += 1
    known.versions |= got
    known.under_way = {}


def _check(group: Group, folders: Folders, changes: Path, known: Acknowledged) -> None:
    ids = [*NAMES, "milk-1"]
    reranker, live = open_live(folders, changes)
    got = {name: version_of(reranker.products, name) for name in known.versions}
    assert got == known.versions, (got, known.versions)
    ranked = reranker.rerank(SearchPage(ids, time=NOW))
    live.close()
    want = (ranked.candidate_ids, ranked.scores.tolist())
    page = pb.RerankRequest(candidate_ids=ids, time=NOW)
    for _ in range(CONNECTIONS // 2):
        with group.channel() as channel:
            answer = RerankServiceStub(channel).Rerank(page, timeout=20)
        assert (list(answer.candidate_ids), list(answer.scores)) == want


def main() -> None:
    """Run and print what it came to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        folders = Folders(work / "bundle", work / "products")
        write_tiny_store(folders.products, write_tiny_bundle(folders.bundle), work / "snapshot")
        changes = work / "changes"
        with serve_group(folders, work / "log", "--changes", str(changes)) as group:
            group.wait_for("process serving", 2)
            seen = kill_again_and_again(group, folders, changes, options.kills)
    sys.stdout.write(json.dumps(vars(seen)) + "\n")


if __name__ == "__main__":
    main()
