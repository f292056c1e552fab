from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import trainer.export.export
from rerank_server.contract.bundle import read_bundle
from rerank_server.contract.golden import Graphs, golden_from_json, golden_to_json
from rerank_server.contract.graph_inputs import Arrays
from rerank_server.contract.text import TextEncoder
from rerank_server.onnx_graph import check_golden, open_graphs
from trainer.encoding.words import read_tokenizer
from trainer.errors import ExportError
from trainer.export.export import (
    GATE_SIZES,
    check_parity,
    export_bundle,
    golden_pages,
    onnx_graphs,
    paddle_graphs,
    sized_pages,
)
from trainer.guard.guard import DEFAULT, guard_from_json
from trainer.pipeline import table_at


@pytest.fixture(scope="module")
def table(tiny_run, tiny_export):
    return table_at(tiny_run.log.prepared, tiny_export.day)


@pytest.fixture(scope="module")
def bundle(tiny_export):
    return read_bundle(tiny_export.bundle)


def export(folder, tiny_run, table):
    return export_bundle(
        folder,
        tiny_run.ranker,
        tiny_run.log,
        tiny_run.catalogue,
        table,
        objective_weights=tiny_run.objective_weights,
        report={"note": "a test"},
        figures={"search_ndcg_at_10": 0.5},
    )


def moved_bias(serialised: bytes, by: float) -> bytes:
    """Return the graph with the biases of the heads (the constants of three numbers) moved."""
    model = onnx.load_model_from_string(serialised)
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    values = [node.attribute[0].t for node in constants]
    biases = [value for value in values if list(value.dims) == [3] and value.data_type == 1]
    assert biases
    for bias in biases:
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + by, bias.name))
    return model.SerializeToString()


@pytest.fixture
def altered(monkeypatch, bundle):
    """Let the export of the network give its graphs with the scorer changed by a little."""

    def alter(change):
        graphs = dict(bundle.graphs)
        graphs["scorer.onnx"] = change(graphs["scorer.onnx"])
        monkeypatch.setattr(trainer.export.export, "export_graphs", lambda *_: graphs)

    return alter


def test_the_gate_passes_a_trained_network_and_says_how_close(tiny_run, bundle):
    difference = check_parity(
        bundle.golden, bundle.schema, bundle.text_encoder, onnx_graphs(dict(bundle.graphs))
    )
    assert 0 <= difference <= bundle.manifest.tolerance == 1e-5


def test_golden_pages_replay_through_the_servers_reader(bundle):
    check_golden(bundle, open_graphs(bundle, threads=1))


def test_golden_pages_are_of_every_surface_and_none_is_before_the_day(
    bundle, tiny_run, tiny_export
):
    surfaces = {bundle.schema.surfaces[page.surface] for page in bundle.golden.pages}
    assert surfaces == set(tiny_run.config.surfaces)
    assert all(page.day >= tiny_export.day for page in bundle.golden.pages)
    assert all(1 <= page.size <= 12 for page in bundle.golden.pages)
    assert bundle.golden.table.as_of_day == tiny_export.day
    assert golden_to_json(
        golden_from_json(golden_to_json(bundle.golden), bundle.schema)
    ) == golden_to_json(bundle.golden)


def test_the_gate_also_sees_pages_of_1_7_and_1000_candidates(tiny_run, table):
    pages = sized_pages(golden_pages(tiny_run.log, table), table)
    assert tuple(page.size for page in pages) == GATE_SIZES == (1, 7, 1000)
    assert pages[2].rows.min() == 0
    assert pages[2].rows.max() == table.unknown_row


@pytest.mark.parametrize("by", [1e-3, float("nan")])
def test_an_altered_graph_is_refused_and_no_folder_is_left(by, tiny_run, table, altered, tmp_path):
    altered(lambda graph: moved_bias(graph, by))
    with pytest.raises(ExportError, match=r"parity: got a difference of .*no bundle was written"):
        export(tmp_path / "bundle", tiny_run, table)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_export_leaves_the_old_bundle_untouched(tiny_run, table, altered, tmp_path):
    altered(lambda graph: graph)
    old = export(tmp_path / "bundle", tiny_run, table)
    before = {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()}
    altered(lambda graph: moved_bias(graph, 1e-3))
    with pytest.raises(ExportError):
        export(tmp_path / "bundle", tiny_run, table)
    after = {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()}
    assert after == before
    assert read_bundle(tmp_path / "bundle").manifest == old.manifest
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_difference_on_one_page_of_a_padded_call_is_seen(bundle):
    honest = onnx_graphs(dict(bundle.graphs))

    def confused(arrays):
        got = dict(honest.scorer(arrays))
        if arrays["surface"].shape[0] > 1:
            got["probabilities"] = got["probabilities"] + np.float32(1e-3)
        return got

    graphs = Graphs(product=honest.product, query=honest.query, scorer=confused)
    with pytest.raises(ExportError, match="parity"):
        check_parity(bundle.golden, bundle.schema, bundle.text_encoder, graphs)


def test_scores_that_are_no_numbers_on_paddles_side_are_refused(bundle):
    broken = replace(
        bundle.golden,
        probabilities=tuple(np.full_like(values, np.nan) for values in bundle.golden.probabilities),
    )
    with pytest.raises(ExportError, match="difference of nan"):
        check_parity(broken, bundle.schema, bundle.text_encoder, onnx_graphs(dict(bundle.graphs)))


def test_paddle_and_onnx_agree_on_vectors_as_well(tiny_run, bundle, table):
    """The gate compares probabilities; what leads to them agrees too."""
    encoder = TextEncoder(read_tokenizer())
    sides = paddle_graphs(tiny_run.ranker), onnx_graphs(dict(bundle.graphs))
    ids, mask = encoder.encode(["fluid milk", "", "dog food dry"])
    queries: Arrays = {"token_ids": ids, "token_mask": mask}
    first, second = (side.query(queries)["vectors"] for side in sides)
    np.testing.assert_allclose(first, second, atol=1e-5)
    size = table.unknown_row + 1
    products: Arrays = {
        "token_ids": np.ones((size, 1), np.int64),
        "token_mask": np.ones((size, 1), np.float32),
        "category": table.categories.astype(np.int64),
        "levels": table.levels.astype(np.int64),
        "attributes": table.attributes.astype(np.int64),
        "identity": tiny_run.catalogue.identities.astype(np.int64),
        "factors": table.factors,
        "factors_present": (table.factors != 0).any(axis=1).astype(np.float32),
    }
    first, second = (side.product(products)["vectors"] for side in sides)
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert first.shape == (size, tiny_run.config.width)


def test_the_manifest_says_what_was_trained(bundle, tiny_run):
    manifest = bundle.manifest
    assert manifest.schema == tiny_run.log.schema
    assert manifest.objective_weights == tiny_run.objective_weights
    assert manifest.widths.product == manifest.widths.query == tiny_run.config.width
    assert bundle.vocabulary == tiny_run.catalogue.vocabulary
    report = json.loads((bundle.folder / "report.json").read_text(encoding="utf-8"))
    assert guard_from_json(report["guard"])[0].choice == DEFAULT
    assert set(report) == {"guard", "calibration_trials"}


def test_a_log_without_a_page_on_or_after_the_day_cannot_be_exported(tiny_run, table):
    late = replace(table, as_of_day=table.as_of_day + 10_000)
    with pytest.raises(ExportError, match="golden pages: got no page on or after day"):
        golden_pages(tiny_run.log, late)
