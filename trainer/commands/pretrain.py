"""`pretrain`: one network of the source categories, without the targets."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from trainer.commands.run_options import add_run_options
from trainer.config import read_config

if TYPE_CHECKING:
    from trainer.studies.adaptation import Setting

NAME = "pretrain"
HELP = "train a network of the source categories, to be adapted to a target"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run and the targets."""
    add_run_options(parser)
    add_targets(parser)


def add_targets(parser: argparse.ArgumentParser) -> None:
    """Add `--targets`."""
    parser.add_argument(
        "--targets",
        type=lambda text: tuple(filter(None, text.split(","))),
        metavar="NAME,NAME",
        help="categories to learn nothing from (default: held_out of the configuration)",
    )


def run(options: argparse.Namespace) -> int:
    """Train; tell where the run lies, and who teaches whom."""
    from trainer.reports.sheet import Sheet, sheet_text, write_sheet
    from trainer.studies.adaptation import pretrain
    from trainer.studies.adaptation_sheet import affinity_section
    from trainer.training.source_affinity import read_affinities

    setting = setting_of(options)
    folder, result = pretrain(setting)
    state = result.progress
    print(
        f"{folder}: step {state.step}, best validation NDCG@10 {state.best:.4f}"
        f" at step {state.best_step}, {result.seconds:.0f} s"
    )
    if setting.config.affinity_pages:
        held_out = setting.config.held_out
        section = affinity_section(read_affinities(folder), held_out)
        title = f"Sources of {', '.join(held_out)}"
        sheet = Sheet(title, (f"{len(setting.sources)} source categories.",), (section,))
        write_sheet(folder / "sources.html", sheet)
        print(f"\n{sheet_text(sheet)}\n\nreport: {folder / 'sources.html'}")
    return 0


def setting_of(options: argparse.Namespace) -> Setting:
    """Return the setting that the options name, the log prepared and encoded."""
    from trainer.pipeline import prepare_and_encode
    from trainer.studies.adaptation import Setting

    config = read_config(options.config)
    if options.targets is not None:
        config = replace(config, held_out=options.targets)
    log = prepare_and_encode(options.config, config, options.work, progress=True)
    return Setting.of(config, log, options.work, progress=True)
