"""`crossrank benchmark`: compare rankings on a data folder of one's own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from trainer.__main__ import main as run_trainer

if find_spec("paddle") is None:  # it is imported much later, after the folder was read
    raise ModuleNotFoundError("No module named 'paddle'", name="paddle")

app = typer.Typer(help="Compare rankings on a data folder: network, trees, neighbours, rules.")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def benchmark(
    context: typer.Context,
    path: Annotated[Path, typer.Option(help="Folder of the data set.")],
    *,
    data_format: Annotated[
        str,
        typer.Option(
            "--format",
            help="ratings, interactions, pairs, judgments or run. What its columns show.",
        ),
    ] = "",
    work: Annotated[Path, typer.Option(help="Folder of kept parts.")] = Path("var/trainer"),
    out: Annotated[Path, typer.Option(help="Folder of learning.json and learning.html.")] = Path(
        "var/benchmark"
    ),
    seeds: Annotated[int, typer.Option(help="Trainings of each network.", min=1)] = 1,
) -> None:
    """Train every ranking on the folder's pages, print the table, write figures and a page.

    Other options are those of `python -m trainer benchmark --help`, such as --pages and --few-shot.
    """
    given = ["--path", str(path), "--work", str(work), "--out", str(out), "--seeds", str(seeds)]
    if data_format:
        given += ["--format", data_format]
    raise typer.Exit(run_trainer(["benchmark", *given, *context.args]))
