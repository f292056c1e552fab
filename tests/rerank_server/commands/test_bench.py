"""`crossrank bench`."""

from __future__ import annotations

import asyncio
import json

from rerank_server.commands.root import main


async def test_both_loops_write_their_figures(tiny_server, tmp_path, capsys):
    page = tmp_path / "page.json"
    page.write_text('{"candidate_ids": ["dog-1", "milk-1"]}')
    common = ["bench", str(page), "--server", f"localhost:{tiny_server.port}", "--seconds", "0.3"]
    assert await asyncio.to_thread(main, [*common, "--callers", "2"]) == 0
    assert "scored_pages_per_s" in capsys.readouterr().out
    assert await asyncio.to_thread(main, [*common, "--rate", "20", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["loop"] == "open"
    assert figures["scored_pages"] == figures["pages"] == 6
    assert figures["latency_p50_ms"] > 0


def test_nobody_there_exits_with_1(tmp_path, capsys):
    page = tmp_path / "page.json"
    page.write_text('{"candidate_ids": ["dog-1", "milk-1"]}')
    assert main(["bench", str(page), "--server", "localhost:1"]) == 1
    assert "got unavailable" in capsys.readouterr().err
