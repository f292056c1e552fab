"""Server processes that a test may kill at any moment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

# Serves the tiny bundle with a scorer that takes its time: folders, seconds, port.
_PROGRAM = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path
from rerank_server.reranker import Reranker
from tests.rerank_server.running import tiny_rerank_server
from tests.rerank_server.scorers import SlowScorer, with_scorer

async def main(bundle, products, seconds, port):
    reranker = Reranker.open(Path(bundle), Path(products), threads=1)
    if seconds:
        reranker = with_scorer(reranker, SlowScorer(seconds))
    server = tiny_rerank_server(reranker, timeout=timedelta(seconds=30))
    print(await server.start("localhost", port), flush=True)
    await asyncio.Event().wait()

asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
"""


class ServerProcess:
    """A server whose scorer takes `seconds` for a page; 0 scores as the bundle does."""

    def __init__(self, folders, *, seconds: float = 0.0, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", _PROGRAM, str(folders.bundle), str(folders.products)),
                *(str(seconds), str(port)),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(json.loads(self.process.stdout.readline()))

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=20)
