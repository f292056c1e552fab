"""Sends a run's folder to MLflow: settings, curves by step, figures, files. Nothing needs it.

What was sent is kept in the folder, so sending again adds what is new, and a run that was gone on
with stays one run there.
"""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank_server.contract.errors import RerankError
from trainer.atomic_text import write_text
from trainer.reports.report import read_training_log
from trainer.reports.run_report import EVALUATION, REPORT, read_evaluation
from trainer.training.run_facts import CURVES, FACTS, RunFacts, read_run

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SENT = "mlflow.json"
EXPERIMENT = "crossrank"
_MOST_METRICS, _MOST_PARAMETERS, _LONGEST = 1000, 100, 6000  # of one request, by MLflow
_SQLITE = "sqlite:///"


class MlflowError(RerankError):
    """MLflow is not installed, or does not take a run."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """What a tracking server has of a run: its id there, and the last step sent."""

    run_id: str
    step: int


def check_mlflow() -> None:
    """Check that MLflow is installed; to be called before anything long.

    Raises:
        MlflowError: When it is not.
    """
    if find_spec("mlflow") is None:
        raise MlflowError(
            "mlflow: got a tracking address and no package, want `pip install mlflow-skinny` or "
            "no address"
        )


def send_run(folder: Path, uri: str) -> str:
    """Send what is new in a run's folder; return the run's id in MLflow.

    Args:
        folder: Of the run.
        uri: Of a tracking server, `sqlite:///FILE`, or a folder.

    Raises:
        MlflowError: When MLflow is not installed or does not take it.
        RunFolderError: When the folder holds no run.
    """
    facts = read_run(folder)
    check_mlflow()
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  slow, and not always there
    from mlflow.tracking import MlflowClient  # noqa: PLC0415

    try:
        with warnings.catch_warnings():
            # what MLflow itself uses of its libraries, and will have to change there
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            client = MlflowClient(tracking_uri=uri)
            sent = _read_sent(folder, uri) or _begin(client, uri, facts)
            step = _send_curves(client, sent, folder)
            _write_sent(folder, uri, _Sent(sent.run_id, step))
            if facts.result is not None:
                _send_outcome(client, sent.run_id, folder, facts)
    except (MlflowException, OSError) as error:
        raise MlflowError(f"mlflow {uri}: got {error}, want a place that takes runs") from error
    return sent.run_id


def _begin(client: MlflowClient, uri: str, facts: RunFacts) -> _Sent:
    """Make the run there, with its settings and what it is made from."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        # beside a database of this machine, not in whatever folder the command was started from
        place = Path(uri.removeprefix(_SQLITE)).resolve().with_suffix(".artifacts")
        location = place.as_uri() if uri.startswith(_SQLITE) else None
        number = client.create_experiment(EXPERIMENT, artifact_location=location)
    else:
        number = experiment.experiment_id
    first = facts.calls[0]
    tags = {
        "mlflow.runName": facts.name,
        "mlflow.source.git.commit": first.commit,
        "command": first.command,
        "data": facts.data.content_hash,
        **{f"environment.{name}": value for name, value in first.environment.items()},
    }
    run_id: str = client.create_run(number, tags=tags).info.run_id
    _send_parameters(client, run_id, facts)
    return _Sent(run_id, -1)


def _send_parameters(client: MlflowClient, run_id: str, facts: RunFacts) -> None:
    from mlflow.entities import Param  # noqa: PLC0415

    shown = {key: json.dumps(value)[:_LONGEST] for key, value in facts.config.items()}
    parameters = [Param(key, value) for key, value in shown.items()]
    for start in range(0, len(parameters), _MOST_PARAMETERS):
        client.log_batch(run_id, params=parameters[start : start + _MOST_PARAMETERS])


def _send_curves(client: MlflowClient, sent: _Sent, folder: Path) -> int:
    """Send the lines of the training log after the last step sent; return the last step."""
    path = folder / CURVES
    lines = read_training_log(path) if path.exists() else []
    fresh = [line for line in lines if line["step"] > sent.step]
    metrics = [
        (key, value, int(line["step"]))
        for line in fresh
        for key, value in line.items()
        if key != "step"
    ]
    _send_metrics(client, sent.run_id, metrics)
    return max((int(line["step"]) for line in fresh), default=sent.step)


def _send_metrics(client: MlflowClient, run_id: str, metrics: list[tuple[str, float, int]]) -> None:
    from mlflow.entities import Metric  # noqa: PLC0415

    at = int(time.time() * 1000)
    made = [Metric(key, value, at, step) for key, value, step in metrics]
    for start in range(0, len(made), _MOST_METRICS):
        client.log_batch(run_id, metrics=made[start : start + _MOST_METRICS])


def _send_outcome(client: MlflowClient, run_id: str, folder: Path, facts: RunFacts) -> None:
    """Send cost, figures on test pages and files of a finished run, and end it there."""
    assert facts.result is not None  # only then there is an outcome
    steps = facts.result.steps
    metrics = [
        ("best_validation_ndcg_at_10", facts.result.best, facts.result.best_step),
        ("seconds", facts.seconds, steps),
        ("peak_mib", facts.result.peak_mib, steps),
    ]
    evaluation = read_evaluation(folder)
    if evaluation is not None:
        for task, result in evaluation.tasks.items():
            own = result.rankings[evaluation.network]
            metrics.append((f"test_{task}_ndcg_at_10", own.metrics["ndcg_at_10"].mean, steps))
            metrics.append((f"test_{task}_macro_ndcg_at_10", own.macro.mean, steps))
    _send_metrics(client, run_id, [metric for metric in metrics if metric[1] == metric[1]])
    for name in (FACTS, CURVES, EVALUATION, REPORT):
        if (folder / name).exists():
            client.log_artifact(run_id, str(folder / name))
    client.set_terminated(run_id, "FINISHED")


def _read_sent(folder: Path, uri: str) -> _Sent | None:
    """Return what this place has of the run; None when it has nothing yet."""
    path = folder / SENT
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return _Sent(**kept[uri]) if uri in kept else None


def _write_sent(folder: Path, uri: str, sent: _Sent) -> None:
    path = folder / SENT
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept[uri] = {"run_id": sent.run_id, "step": sent.step}
    write_text(path, json.dumps(kept, indent=1))
