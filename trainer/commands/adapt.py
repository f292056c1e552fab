"""`adapt`: from the network of the sources to a target, with none, few or many of its pages."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

from trainer.commands.pretrain import add_targets, setting_of
from trainer.commands.run_options import add_run_options
from trainer.errors import TransferError
from trainer.training.provenance import command_line

if TYPE_CHECKING:
    from trainer.studies.adaptation import Setting

NAME = "adapt"
HELP = "adapt the network of the sources to a target category, and compare"

_TREE_TRIALS = 4


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run, of a target and of how it is adapted to."""
    add_run_options(parser)
    add_targets(parser)
    parser.add_argument("--target", required=True, metavar="NAME", help="the category to adapt to")
    parser.add_argument(
        "--pages",
        type=int,
        required=True,
        help="its pages to learn from, 0 for none; as many validation pages stop the training",
    )
    parser.add_argument(
        "--draw",
        choices=("random", "latest"),
        default="random",
        help="which pages these are: at random by the seed, or the latest (default: %(default)s)",
    )
    parser.add_argument(
        "--sources",
        default="all",
        metavar="all|auto|NAME,NAME",
        help="categories that teach: all but the targets, those whose gradients help the target,"
        " or these (default: %(default)s)",
    )
    parser.add_argument(
        "--train-only",
        choices=("all", "adapters"),
        help="what is trained (default: by the number of pages)",
    )
    parser.add_argument(
        "--l2-sp", type=float, help="pull back to the sources' weights (default: by the trainer)"
    )


def run(options: argparse.Namespace) -> int:
    """Adapt and compare; print the sheet and where it lies."""
    from trainer.atomic_text import write_text
    from trainer.baselines.gbdt import GbdtBudget
    from trainer.evaluation.evaluation import to_json
    from trainer.reports.sheet import sheet_text, write_sheet
    from trainer.studies.adaptation import check_target, pretrain
    from trainer.studies.adaptation_sheet import adaptation_sheet
    from trainer.studies.transfer_comparison import compare_transfer
    from trainer.training.source_affinity import read_affinities

    changes = _changes(options)
    whole = setting_of(options)
    check_target(whole, options.target, options.pages)
    setting = _chosen(options, whole)
    source, _ = pretrain(setting)
    compared = compare_transfer(
        setting,
        source,
        options.target,
        options.pages,
        options.draw,
        changes=changes,
        trees=GbdtBudget(trials=_TREE_TRIALS, threads=1),
    )
    measured = options.sources == "auto" or setting.config.affinity_pages > 0
    sheet = adaptation_sheet(
        compared,
        read_affinities(pretrain(whole)[0]) if measured else None,
        (f"Sources: {', '.join(setting.sources)}.", command_line()),
    )
    named = f"{options.target}-{options.pages}"
    write_sheet(compared.folder / f"{named}.html", sheet)
    write_text(compared.folder / f"{named}.json", json.dumps(to_json(compared.evaluation)))
    print(f"{sheet_text(sheet)}\n\nreport: {compared.folder / f'{named}.html'}")
    return 0


def _chosen(options: argparse.Namespace, setting: Setting) -> Setting:
    """Return the setting with the sources that the options name."""
    from trainer.studies.adaptation import chosen_sources, with_sources

    if options.sources == "all":
        return setting
    if options.sources == "auto" and options.draw == "latest":
        raise TransferError(
            "sources: got auto with draw latest, want draw random: sources are chosen by pages of"
            " the target that are drawn at random"
        )
    if options.sources == "auto":
        return chosen_sources(setting, options.target, options.pages)
    return with_sources(setting, [name for name in options.sources.split(",") if name])


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    """Return the keys of the configuration that the options name."""
    from trainer.errors import TransferError

    if options.l2_sp is not None and not 0 <= options.l2_sp < math.inf:
        raise TransferError(f"l2_sp: got {options.l2_sp}, want 0 or more")
    changes = {"train_only": options.train_only, "l2_sp": options.l2_sp}
    return {name: value for name, value in changes.items() if value is not None}
