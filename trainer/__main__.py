"""The command line: prepare, train, evaluate, export, benchmark."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rerank_server.contract.errors import RerankError
from trainer.atomic_text import write_text
from trainer.config import TrainConfig, read_config
from trainer.evaluation import evaluation_from_json, to_json
from trainer.kernels import prefer_fast_kernels
from trainer.learning_options import add_learning_options
from trainer.provenance import command_line

if TYPE_CHECKING:
    from trainer.comparison import Comparison
    from trainer.pipeline import Run

CONFIGS = Path(__file__).parent / "configs"
RESULTS = Path("tests/benchmarks/results")
EVALUATION = "evaluation.json"
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 is done, 1 an error that it has named on one line, 130 an interruption. A wrong command line
    leaves with 2, by `SystemExit`.
    """
    options = _parser().parse_args(arguments)
    prefer_fast_kernels(os.environ)
    try:
        return int(options.command(options))
    except RerankError as error:
        print(f"trainer: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = error.filename or options.work
        print(f"trainer: {where}: got {error.strerror or error}, want a folder with room to write",
              file=sys.stderr)  # fmt: skip
        return 1
    except KeyboardInterrupt:
        print("trainer: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer",
        description="Trains a reranker from a shop's log. Each command does what the ones before"
        " it would have done, and reads what an equal earlier call has left.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, command, text in (
        ("prepare", _prepare, "clean the log, retrieve pages and encode them"),
        ("train", _train, "train the network, or go on from its last checkpoint"),
        ("evaluate", _evaluate, "compare the network with other rankings, write a report"),
        ("export", _export, "write the bundle and the catalogue snapshot"),
        ("benchmark", _benchmark, "train on all data and write the results"),
    ):
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument(
            "--config",
            type=Path,
            default=CONFIGS / "complete_journey.toml",
            help="TOML file of the run (default: %(default)s)",
        )
        added.add_argument(
            "--work",
            type=Path,
            default=Path("var/trainer"),
            help="folder of everything that is written (default: %(default)s)",
        )
        if name == "benchmark":
            _add_budget(added)
            add_learning_options(added)
        added.set_defaults(command=command)
    return parser


def _add_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="where results go (default: %(default)s)"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="trainings of the network (default: %(default)s)"
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=2,
        help="settings that LightGBM tries on each task (default: %(default)s)",
    )
    parser.add_argument(
        "--readme", type=Path, help="Markdown file whose table is replaced by the results"
    )
    parser.add_argument(
        "--pooled-only",
        action="store_true",
        help="leave out the networks and trees of single categories",
    )


def _prepare(options: argparse.Namespace) -> int:
    from trainer.clean import report_from_json  # noqa: PLC0415
    from trainer.pipeline import prepare_and_encode  # noqa: PLC0415  Paddle takes seconds

    log = prepare_and_encode(
        options.config, read_config(options.config), options.work, progress=True
    )
    print(report_from_json(log.prepared.manifest["cleaning"]).to_table())
    print(f"\n{log.prepared.path}\n{log.folder}")
    return 0


def _train(options: argparse.Namespace) -> int:
    run = _trained(options, read_config(options.config))
    state = run.result.progress
    print(
        f"{run.folder}: step {state.step}, best validation NDCG@10 {state.best:.4f}"
        f" at step {state.best_step}, {run.result.seconds:.0f} s"
    )
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from trainer.calibration import format_calibration  # noqa: PLC0415
    from trainer.evaluation_tables import format_tables  # noqa: PLC0415

    run = _trained(options, read_config(options.config))
    compared = _compared(run)
    print(format_tables(compared.evaluation))
    print(f"\n{format_calibration(compared.calibration)}")
    print(f"\nreport: {run.folder / 'report.html'}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from trainer.pipeline import export_run, first_test_day  # noqa: PLC0415

    run = _trained(options, read_config(options.config))
    kept = run.folder / EVALUATION
    evaluation = (
        evaluation_from_json(json.loads(kept.read_text(encoding="utf-8")))
        if kept.exists()
        else None
    )
    bundle = export_run(run, evaluation, options.work, first_test_day(run.log.prepared))
    print(
        f"{options.work / 'bundle'}: bundle {bundle.manifest.bundle_id[:12]}\n"
        f"{options.work / 'snapshot'}: {len(run.catalogue.records)} products"
    )
    return 0


def _benchmark(options: argparse.Namespace) -> int:
    if options.path is not None or options.all_in is not None:
        from trainer.learning_command import run_learning  # noqa: PLC0415

        for told in run_learning(options):
            print(told)
        return 0
    from trainer.benchmark import run_benchmark  # noqa: PLC0415
    from trainer.benchmark_parts import BenchmarkBudget  # noqa: PLC0415
    from trainer.evaluation_tables import format_tables  # noqa: PLC0415
    from trainer.results_table import write_into_readme  # noqa: PLC0415

    budget = BenchmarkBudget(options.seeds, options.trials, not options.pooled_only)
    evaluation = run_benchmark(options.config, options.work, options.out, budget, progress=True)
    print(format_tables(evaluation))
    if options.readme is not None:
        results = options.out / f"{read_config(options.config).name}.json"
        write_into_readme(options.readme, results)
    return 0


def _trained(options: argparse.Namespace, config: TrainConfig) -> Run:
    from trainer.pipeline import prepare_and_encode, run_training  # noqa: PLC0415

    log = prepare_and_encode(options.config, config, options.work, progress=True)
    return run_training(config, log, options.work, progress=True)


def _compared(run: Run) -> Comparison:
    """Compare the run with other rankings; write the figures and the report into its folder."""
    from trainer.comparison import compare_rankings  # noqa: PLC0415
    from trainer.gbdt import GbdtBudget  # noqa: PLC0415
    from trainer.report import TRAINING_LOG, write_report  # noqa: PLC0415

    budget = GbdtBudget(threads=len(os.sched_getaffinity(0)))
    compared = compare_rankings(run, budget, progress=True)
    write_report(
        run.folder / "report.html",
        compared.evaluation,
        title=run.config.name,
        command=command_line(),
        training_log=run.folder / TRAINING_LOG,
        calibration=compared.calibration,
    )
    write_text(run.folder / EVALUATION, json.dumps(to_json(compared.evaluation)))
    return compared


if __name__ == "__main__":
    sys.exit(main())
