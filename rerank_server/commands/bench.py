"""`crossrank bench`: what a running server answers under load, as its callers see it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rerank_server.commands.options import (
    SERVER,
    JsonFlag,
    ServerOption,
    TlsCaOption,
    TlsClientOption,
    TokenFileOption,
    connect,
)
from rerank_server.commands.output import write_json, write_notice, write_table

if TYPE_CHECKING:
    from rerank_server.load.figures import LoadFigures

app = typer.Typer()


@app.command()
def bench(  # noqa: PLR0913 - the options of the command, one by one
    page: Annotated[
        Path, typer.Argument(help="A RerankRequest as JSON, sent again and again; - reads stdin.")
    ],
    *,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Open loop: send this many pages a second at random times, answered or not.",
            min=0.1,
            max=100_000,
        ),
    ] = None,
    callers: Annotated[
        int,
        typer.Option(
            help="Closed loop, without --rate: this many callers, each waiting for its answer.",
            min=1,
            max=1_000,
        ),
    ] = 1,
    seconds: Annotated[
        float, typer.Option(help="How long to measure.", min=0.1, max=86_400)
    ] = 10.0,
    server: ServerOption = SERVER,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_client: TlsClientOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure latency and throughput of a running server with one page.

    Closed loop (--callers) measures what a server can do when callers wait for it; its latencies
    say little about a shop, whose shoppers do not wait for each other. Open loop (--rate) counts
    each latency from when the page should have been sent, so that a stall counts for every page
    it delays (no coordinated omission); pages that this program itself sent late are shown.
    """
    import asyncio
    from dataclasses import replace

    from rerank_server.commands.page_file import read_page
    from rerank_server.load.loop import closed_loop, open_loop

    wanted = read_page(page)
    connection = replace(connect(server, token_file, tls_ca, tls_client), attempts=1)
    if rate is None:
        figures = asyncio.run(closed_loop(connection, wanted, callers=callers, seconds=seconds))
    else:
        figures = asyncio.run(open_loop(connection, wanted, rate=rate, seconds=seconds))
    _write_figures(figures, as_json=as_json)


def _write_figures(figures: LoadFigures, *, as_json: bool) -> None:
    if as_json:
        write_json(figures.as_json())
        return
    rows: list[tuple[str, object]] = list(figures.as_json().items())
    write_table(("figure", ""), [row for row in rows if not isinstance(row[1], dict)])
    for reason, pages in figures.degraded.items():
        write_notice(f"{pages} pages in retrieval order: {reason}")
    if figures.sent_late_share > _LATE_SHARE:
        write_notice(
            f"{figures.sent_late_share:.1%} of the pages were sent more than 1 ms late by this"
            " program: the figures are its limit, not the server's"
        )


_LATE_SHARE = 0.01
