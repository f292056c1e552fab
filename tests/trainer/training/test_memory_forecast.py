from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.errors import MemoryForecastError
from trainer.training.memory_forecast import (
    GIB,
    MIB,
    Forecast,
    Limit,
    Part,
    check_memory,
    export_forecast,
    memory_limit,
    parameter_count,
    preparation_forecast,
    table_memory,
    training_forecast,
)

ROOT = Path(__file__).parents[3]
MEASURED = ROOT / "tests" / "benchmarks" / "results" / "preparation.json"
TINY = Path(__file__).parents[1] / "data" / "complete_journey_tiny"
TOLERANCE = 0.25
SIZES = (
    {"trees": False, "epochs": 1},
    {"trees": False, "epochs": 1, "pages_per_batch": 512, "width": 128, "hidden": (512, 256),
     "number_bins": 8},
)  # fmt: skip

_MEASURE = """
import json, sys
from dataclasses import replace
from pathlib import Path
from tests.benchmarks.throughput.growth import sampled
from rerank_server.contract.features import SEQUENCE_FEATURES
from trainer.encoding.catalogue import read_catalogue
from trainer.config import read_config
from trainer.encoding.dataset import read_prepared
from trainer.encoding.encoded import read_encoded
from trainer.export.export import export_graphs
from trainer.training.train import train
values = json.loads(sys.argv[1])
if "hidden" in values:
    values["hidden"] = tuple(values["hidden"])
config = replace(read_config(Path(sys.argv[2])), **values)
log = read_encoded(read_prepared(Path(sys.argv[3])), Path(sys.argv[4]))
with sampled() as training:
    catalogue = read_catalogue(log.prepared)
    ranker = train(config, log, catalogue, Path(sys.argv[5]), progress=False).ranker
print(training["RssAnon"] * 1024, sum(p.size for p in ranker.parameters()))
"""


def measured(values, log, folder):
    config = ROOT / "trainer" / "configs" / "tiny.toml"
    command = [sys.executable, "-W", "ignore", "-c", _MEASURE, json.dumps(values), str(config)]
    command += [str(log.prepared.path), str(log.folder), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return [int(word) for word in done.stdout.splitlines()[-1].split()]


@pytest.mark.slow
@pytest.mark.parametrize("values", SIZES, ids=("small", "large"))
def test_the_forecast_of_training_is_near_the_peak_measured(
    values, tiny_log, tiny_config, tmp_path
):
    peak, parameters = measured(values, tiny_log, tmp_path)
    config = replace(tiny_config, **values)
    rows = int(tiny_log.offsets[-1])
    assert training_forecast(config, tiny_log, rows).peak == pytest.approx(peak, rel=TOLERANCE)
    assert parameter_count(config, tiny_log) == pytest.approx(parameters, rel=0.3)


def test_the_forecast_of_preparation_is_near_the_peaks_the_benchmark_measured(tmp_path):
    """Its sizes differ in lines alone; 20.9 million lines of promotions come with each."""
    forecast = preparation_forecast([TINY / "transactions.parquet", TINY / "promotions.parquet"])
    lines, promotions = (int(part.what.split(" of ")[1].split()[0].replace(",", ""))
                         for part in forecast.parts)  # fmt: skip
    per_line, per_promotion = (
        part.bytes / rows for part, rows in zip(forecast.parts, (lines, promotions), strict=True)
    )
    for size in json.loads(MEASURED.read_text(encoding="utf-8"))["sizes"]:
        told = forecast.program + size["lines"] * per_line + 20_940_529 * per_promotion
        assert told / GIB == pytest.approx(size["peak_gib"], rel=TOLERANCE), size


def test_what_does_not_fit_is_refused_with_the_setting_that_avoids_it():
    parts = (Part("a batch", 3 * GIB, "fewer pages_per_batch"), Part("rows", GIB, "max_pages"))
    forecast = Forecast("train", GIB // 2, parts)
    check_memory(forecast, Limit(forecast.peak, "free"))
    check_memory(forecast, None)
    with pytest.raises(MemoryForecastError) as refused:
        check_memory(forecast, Limit(4 * GIB, "left of the limit of control group v2"))
    assert str(refused.value) == (
        "memory: got 4.5 GiB needed by train (3.0 GiB of it a batch), want at most 4.0 GiB (left "
        "of the limit of control group v2); set fewer pages_per_batch, or give --memory-limit to "
        "try all the same"
    )


def test_each_setting_the_refusal_names_makes_its_part_smaller(tiny_log, tiny_config):
    config = replace(tiny_config, trees=True)
    base = training_forecast(config, tiny_log, 10_000_000)
    assert "trees" in base.largest.what
    thinned = training_forecast(replace(config, trees_every=4), tiny_log, 10_000_000)
    assert thinned.peak < base.peak
    wide = replace(config, trees=False, width=2048)
    assert training_forecast(wide, tiny_log, 1).peak > training_forecast(config, tiny_log, 1).peak
    assert export_forecast(wide, tiny_log).peak > export_forecast(config, tiny_log).peak


def test_each_more_process_holds_program_catalogue_and_network_again(tiny_log, tiny_config):
    config = replace(tiny_config, trees=False, width=2048)
    one = training_forecast(config, tiny_log, 1)
    three = training_forecast(config, tiny_log, 1, processes=3)
    again = one.program + sum(part.bytes for part in one.parts if part.what != "a batch")
    assert three.peak - one.peak == 2 * again
    assert three.largest.setting == "fewer --processes"


def test_the_limit_is_the_smallest_that_the_system_names(tmp_path):
    assert memory_limit(tmp_path) is None
    write(tmp_path / "proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    assert memory_limit(tmp_path) == Limit(8000 * 1024, "free on the machine")
    group = tmp_path / "sys/fs/cgroup"
    write(group / "memory/memory.limit_in_bytes", f"{6 * MIB}\n")
    write(group / "memory/memory.usage_in_bytes", f"{MIB}\n")
    assert memory_limit(tmp_path) == Limit(5 * MIB, "left of the limit of control group v1")
    write(group / "memory.max", "max\n")
    write(group / "memory.current", "5\n")
    assert memory_limit(tmp_path) == Limit(5 * MIB, "left of the limit of control group v1")
    write(group / "memory.max", f"{2 * MIB}\n")
    assert memory_limit(tmp_path) == Limit(2 * MIB - 5, "left of the limit of control group v2")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")


def test_the_sums_of_a_hundred_million_products():
    whole = table_memory(100_000_000, 64)
    assert whole.serving == 100_000_000 * 64 * 4
    assert whole.training == 4 * whole.serving == 102_400_000_000
    assert table_memory(100_000_000, 64, shards=8).each_shard == 12_800_000_000
    hashed = table_memory(100_000_000, 64, buckets=10_000_000)
    assert hashed.training == whole.training // 10
    assert table_memory(10, 1, shards=4).each_shard == 3 * 4 * 4  # 3, 3, 2 and 2 rows


def test_the_readme_tells_the_sums_that_the_function_gives():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    whole, sharded, hashed = (
        table_memory(100_000_000, 64),
        table_memory(100_000_000, 64, shards=8),
        table_memory(100_000_000, 64, buckets=10_000_000),
    )
    for gigabytes, what in (
        (whole.serving, "to serve"),
        (whole.training, "to train"),
        (sharded.each_shard, "in each of 8 shards"),
        (hashed.training, "on one machine when hashed"),
    ):
        assert f"{gigabytes / 1e9:.1f} GB {what}" in text
