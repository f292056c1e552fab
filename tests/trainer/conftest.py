"""The tiny Complete Journey log: prepared, encoded, trained and exported once per session.

Paddle is imported by the fixtures that need it, so that other tests do not wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

TINY_CONFIG = Path(__file__).parents[2] / "trainer" / "configs" / "tiny.toml"


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread():
    """As the pipeline has it; `implicit` warns of more."""
    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture(scope="session")
def tiny_config():
    from trainer.config import read_config  # noqa: PLC0415

    return read_config(TINY_CONFIG)


@pytest.fixture(scope="session")
def tiny_work(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("tiny-work")
    return folder


@pytest.fixture(scope="session")
def tiny_log(tiny_config, tiny_work):
    from trainer.pipeline import prepare_and_encode  # noqa: PLC0415

    return prepare_and_encode(TINY_CONFIG, tiny_config, tiny_work, progress=False)


@pytest.fixture(scope="session")
def tiny_catalogue(tiny_log):
    from trainer.encoding.catalogue import read_catalogue  # noqa: PLC0415

    return read_catalogue(tiny_log.prepared)


@pytest.fixture
def tiny_ranker(tiny_config, tiny_log, tiny_catalogue):
    """Return an untrained network of the tiny log with weights that are nowhere zero."""
    import paddle  # noqa: PLC0415

    from trainer.training.network import build_ranker  # noqa: PLC0415

    ranker = build_ranker(tiny_config, tiny_log, tiny_catalogue)
    paddle.seed(5)
    for parameter in ranker.parameters():
        parameter.set_value(parameter + 0.1 * paddle.randn(parameter.shape))
    ranker.eval()
    return ranker


@pytest.fixture(scope="session")
def tiny_run(tiny_config, tiny_log, tiny_work):
    from trainer.pipeline import run_training  # noqa: PLC0415

    return run_training(tiny_config, tiny_log, tiny_work, progress=False)


@dataclass(frozen=True)
class TinyExport:
    bundle: Path
    snapshot: Path
    products: Path
    day: int


@pytest.fixture(scope="session")
def tiny_export(tiny_run, tiny_work) -> TinyExport:
    """Return where bundle, snapshot and product store lie, as of the first test day."""
    from rerank_server.onnx_graph import open_graphs  # noqa: PLC0415
    from rerank_server.product_build import build_product_store  # noqa: PLC0415
    from trainer.pipeline import export_run, first_test_day  # noqa: PLC0415

    day = first_test_day(tiny_run.log.prepared)
    bundle = export_run(tiny_run, None, tiny_work, day)
    folders = TinyExport(tiny_work / "bundle", tiny_work / "snapshot", tiny_work / "products", day)
    build_product_store(bundle, open_graphs(bundle, threads=1), folders.snapshot, folders.products)
    return folders
