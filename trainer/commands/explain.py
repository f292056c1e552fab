"""`explain`: what a run goes by, or why the products of one page stand where they stand."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commands.run_options import add_run_options, trained
from trainer.training.provenance import command_line

if TYPE_CHECKING:
    from trainer.pipeline import Run

NAME = "explain"
HELP = "say what the network goes by, or why products of one page stand where they stand"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run, of what is measured, and of one page."""
    add_run_options(parser)
    measured = parser.add_argument_group("the whole network")
    measured.add_argument(
        "--pages", type=int, default=200, help="test pages of each surface (default: %(default)s)"
    )
    measured.add_argument("--out", type=Path, help="write the figures as JSON here too")
    asked = parser.add_argument_group("one page")
    asked.add_argument("--page", type=int, help="number of a page of the encoded log")
    asked.add_argument("--query", help="the first test page with this query")
    asked.add_argument("--product", help="id of a product of the page; without it, the best ones")
    asked.add_argument(
        "--top", type=int, default=3, help="places that a counterfactual reaches for (default: 3)"
    )
    asked.add_argument(
        "--change",
        action="append",
        default=[],
        metavar="FEATURE=LOW:HIGH",
        help="what may be changed, and how far; with x behind both bounds, factors on the"
        " product's own value (default: price=0.5x:1x and the log's signals)",
    )


def run(options: argparse.Namespace) -> int:
    """Explain; print what was found."""
    from trainer.explanations.options import check_options, page_number

    check_options(options)
    done = trained(options)
    if options.page is None and options.query is None:
        _explain_network(done, options)
        return 0
    from trainer.explanations.one_page import explain_page

    number = page_number(done, options.page, options.query)
    print(explain_page(done, number, options.product, options.top, options.change))
    return 0


def _explain_network(done: Run, options: argparse.Namespace) -> None:
    from trainer.explanations.model import ExplanationPlan, explain_run, write_explanation
    from trainer.explanations.page import write_page
    from trainer.explanations.tables import format_model

    plan = ExplanationPlan(
        pages=options.pages,
        fidelity_pages=max(options.pages // 2, 1),
        adapter_pages=options.pages * 5,
        counterfactual_pages=max(options.pages // 4, 1),
        top=options.top,
    )
    explained = explain_run(done, plan, progress=True)
    write_explanation(done.folder / "explanations.json", explained)
    if options.out is not None:
        write_explanation(options.out, explained)
    write_page(done.folder / "explanations.html", explained, command_line())
    print(format_model(explained))
    print(f"\nreport: {done.folder / 'explanations.html'}")
