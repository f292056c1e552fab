from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.trainer.small_runs import PAGES, write_small_config
from trainer.config import read_config
from trainer.encoding.log_share import PageLimits, share_of_log
from trainer.pipeline import run_training
from trainer.reports.mlflow_sink import EXPERIMENT, SENT, MlflowError, check_mlflow, send_run
from trainer.training.run_facts import CURVES, RunFolderError


def test_without_the_package_a_run_that_asks_for_it_is_refused_at_once(
    tiny_log, tmp_path, monkeypatch
):
    monkeypatch.setattr("trainer.reports.mlflow_sink.find_spec", lambda _name: None)
    config = replace(read_config(write_small_config(tmp_path)), mlflow="runs")
    with pytest.raises(MlflowError, match="pip install mlflow-skinny"):
        run_training(config, tiny_log, tmp_path / "work", progress=False)
    assert not (tmp_path / "work").exists()
    with pytest.raises(MlflowError):
        check_mlflow()


@pytest.fixture(scope="module")
def sent(tiny_log, tmp_path_factory):
    """A small run sent to a database of its own while it was trained."""
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    work = tmp_path_factory.mktemp("sent")
    uri = f"sqlite:///{work / 'mlflow.db'}"
    config = replace(read_config(write_small_config(work)), mlflow=uri)
    log = share_of_log(tiny_log, PageLimits(*PAGES))
    return uri, run_training(config, log, work, progress=False), work


def client_of(uri):
    from mlflow.tracking import MlflowClient  # noqa: PLC0415

    return MlflowClient(tracking_uri=uri)


def test_settings_curves_and_files_are_there(sent):
    uri, run, work = sent
    client = client_of(uri)
    (there,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    assert there.info.status == "FINISHED"
    assert there.data.params["rank"] == "1"
    assert there.data.params["name"] == '"small"'
    lines = [json.loads(line) for line in (run.folder / CURVES).read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    history = client.get_metric_history(there.info.run_id, "loss")
    assert {metric.step: metric.value for metric in history} == pytest.approx(losses)
    assert there.data.metrics["best_validation_ndcg_at_10"] == pytest.approx(
        run.result.progress.best
    )
    assert {file.path for file in client.list_artifacts(there.info.run_id)} >= {CURVES, "run.json"}
    assert (work / "mlflow.artifacts").is_dir()


def test_sending_again_sends_nothing_twice(sent):
    uri, run, _ = sent
    client = client_of(uri)
    run_id = send_run(run.folder, uri)
    before = len(client.get_metric_history(run_id, "loss"))
    assert send_run(run.folder, uri) == run_id
    assert len(client.get_metric_history(run_id, "loss")) == before
    assert json.loads((run.folder / SENT).read_text())[uri]["run_id"] == run_id


def test_where_a_run_is_sent_makes_no_other_run(sent, tiny_log):
    _, run, work = sent
    again = run_training(replace(run.config, mlflow=""), run.log, work, progress=False)
    assert again.folder == run.folder


def test_a_folder_without_a_run_and_a_place_that_takes_none_are_refused(sent, tmp_path):
    uri, run, _ = sent
    with pytest.raises(RunFolderError):
        send_run(tmp_path, uri)
    with pytest.raises(MlflowError, match="want a place that takes runs"):
        send_run(run.folder, "no-such-scheme://here")
