"""What preparing, training and exporting will hold in memory, told before it is held.

Each sum is of what grows with the log, the catalogue and the network, with bytes that were fitted
to measured peaks; those of training hold to within a quarter at two sizes (a test). Those of
trees are assumed, and those of preparation and export were fitted to few runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import narwhals as nw

from trainer.config import TrainConfig
from trainer.encoding.encoded import EncodedLog
from trainer.errors import MemoryForecastError
from trainer.logs.log_files import scan_table

MIB, GIB = 2**20, 2**30
_FLOAT = 4
_PREPARING = 120 * MIB  # Python, Polars
_LINE = 410  # a line of the log with the candidates of the pages it makes
_PROMOTION = 48  # a line of the promotions
_TRAINING = 400 * MIB  # Paddle, word vectors, tokeniser
_RECORD = 1500  # a product as read from the catalogue
_INTERACTION = 290  # while item-kNN and ALS are fitted
# A number of the network: weight, gradient, two moments, average, and copies of an evaluation.
_NETWORK_COPIES = 8
_ONNX_COPIES = 11  # of weights: the program, the graphs, their text, onnxruntime's own
_TREE_COPIES = 3  # of a feature: the pages, on one scale, what LightGBM makes of them
_FACTORS = 32


@dataclass(frozen=True, slots=True)
class Part:
    """A share of a forecast: what it is for, and the setting that makes it smaller."""

    what: str
    bytes: int
    setting: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """The peak of one command.

    Attributes:
        command: Its name.
        program: Bytes held whatever the log.
        parts: What comes on top, all at the same time.
    """

    command: str
    program: int
    parts: tuple[Part, ...]

    @property
    def peak(self) -> int:
        """Bytes at most."""
        return self.program + sum(part.bytes for part in self.parts)

    @property
    def largest(self) -> Part:
        """The part whose setting helps most."""
        return max(self.parts, key=lambda part: part.bytes)


@dataclass(frozen=True, slots=True)
class Limit:
    """How much may be held, and who says so."""

    bytes: int
    source: str


def check_memory(forecast: Forecast, limit: Limit | None) -> None:
    """Refuse a command that would not fit.

    Raises:
        MemoryForecastError: Its peak is above the limit; names the setting that avoids it.
    """
    if limit is None or forecast.peak <= limit.bytes:
        return
    part = forecast.largest
    raise MemoryForecastError(
        f"memory: got {forecast.peak / GIB:.1f} GiB needed by {forecast.command} "
        f"({part.bytes / GIB:.1f} GiB of it {part.what}), want at most {limit.bytes / GIB:.1f} GiB "
        f"({limit.source}); set {part.setting}, or give --memory-limit to try all the same"
    )


def memory_limit(root: Path = Path("/")) -> Limit | None:
    """Return the smallest of what the machine has free and its control groups still allow.

    Args:
        root: Where `proc` and `sys` lie.

    Returns:
        None where the system says nothing.
    """
    found: list[Limit] = []
    free = re.search(r"MemAvailable:\s+(\d+) kB", _text(root / "proc/meminfo"))
    if free:
        found.append(Limit(int(free[1]) * 1024, "free on the machine"))
    group = root / "sys/fs/cgroup"
    for version, most, used in (
        ("2", group / "memory.max", group / "memory.current"),
        ("1", group / "memory/memory.limit_in_bytes", group / "memory/memory.usage_in_bytes"),
    ):
        limit, now = _text(most).strip(), _text(used).strip()
        if limit.isdigit() and now.isdigit():
            left = max(int(limit) - int(now), 0)
            found.append(Limit(left, f"left of the limit of control group v{version}"))
    return min(found, key=lambda one: one.bytes, default=None)


def given_limit(gibibytes: float | None) -> Limit | None:
    """Return the limit that a caller gave, or that of the machine."""
    if gibibytes is None:
        return memory_limit()
    return Limit(int(gibibytes * GIB), "--memory-limit")


def preparation_forecast(files: Iterable[Path]) -> Forecast:
    """Return the peak of `prepare`, from the number of rows in its files.

    Raises:
        LogFileError: A file cannot be read.
    """
    parts = []
    for path in files:
        rows = int(scan_table(path, path.stem).select(nw.len()).collect().item())
        each = _PROMOTION if path.stem.startswith("promotions") else _LINE
        parts.append(Part(f"{path.name} of {rows:,} rows", rows * each, _shorter(path)))
    return Forecast("prepare", _PREPARING, tuple(parts))


def _shorter(path: Path) -> str:
    return f"another `folder`, whose {path.name} has fewer rows (a later start, fewer shoppers)"


def training_forecast(
    config: TrainConfig, log: EncodedLog, rows: int, processes: int = 1
) -> Forecast:
    """Return the peak of `train` on `rows` training candidates, with its trees.

    Of more processes each has the catalogue and the network, and its share of a batch.
    """
    catalogue = _catalogue(log)
    network = Part(
        f"a network of {parameter_count(config, log):,} numbers",
        parameter_count(config, log) * _FLOAT * _NETWORK_COPIES,
        "a smaller width or hidden",
    )
    batch = Part(
        "a batch",
        config.pages_per_batch * _page_floats(config, log) * _FLOAT,
        "fewer pages_per_batch or candidates_per_page",
    )
    past = Part(
        "item-kNN and ALS",
        log.prepared.interaction_rows.shape[0] * _INTERACTION,
        "a log of fewer interactions",
    )
    # the past is let go before the network is made
    learning = (network, batch)
    later = learning if sum(part.bytes for part in learning) > past.bytes else (past,)
    parts = [catalogue, *later]
    if config.trees or config.teacher_share > 0:
        held = rows // config.trees_every * len(log.schema.features) * _FLOAT * _TREE_COPIES
        parts.append(Part("the trees", held, "max_pages, or a larger trees_every"))
    if processes > 1:
        held = (processes - 1) * (_TRAINING + catalogue.bytes + network.bytes)
        parts.append(Part(f"{processes - 1} more processes", held, "fewer --processes"))
    return Forecast("train", _TRAINING, tuple(parts))


def export_forecast(config: TrainConfig, log: EncodedLog) -> Forecast:
    """Return the peak of `export`."""
    count = parameter_count(config, log)
    graphs = Part("the graphs", count * _FLOAT * _ONNX_COPIES, "a smaller width or hidden")
    return Forecast("export", _TRAINING, (_catalogue(log), graphs))


def _catalogue(log: EncodedLog) -> Part:
    products = log.prepared.size
    each = _RECORD + (_text_width(log) + _FACTORS) * _FLOAT
    return Part(f"{products:,} products", products * each, "a catalogue of fewer products")


def parameter_count(config: TrainConfig, log: EncodedLog) -> int:
    """Return about how many numbers the network learns: tables, joined and hidden layers."""
    width, categories = config.width, len(log.schema.categories)
    tables = log.prepared.size + sum(
        len(log.prepared.names(name)) for name in ("leaves", "middles", "brands", "sizes")
    )
    joined = _joined(config, log)
    widths = (joined, *config.hidden)
    layers = sum(a * b for a, b in zip(widths, config.hidden, strict=False))
    adapters = sum(widths[:-1]) + sum(config.hidden)
    encoded = len(log.schema.features) * config.number_bins * width
    attention = config.page_layers * 8 * config.hidden[-1] ** 2 + 40 * width**2
    own = adapters * categories * config.rank
    return tables * width + 3 * _text_width(log) * width + layers + own + encoded + attention


def _joined(config: TrainConfig, log: EncodedLog) -> int:
    return (6 if config.number_bins else 5) * config.width + len(log.schema.features)


def _page_floats(config: TrainConfig, log: EncodedLog) -> int:
    """Return the numbers that a step keeps of one page, forward and backward."""
    longest = int((log.offsets[1:] - log.offsets[:-1]).max())
    candidates = min(config.candidates_per_page or longest, longest)
    each = 3 * config.number_bins * len(log.schema.features) + 3 * _joined(config, log)
    each += 8 * sum(config.hidden) + 3 * config.page_layers * config.heads * candidates
    return candidates * each


def _text_width(log: EncodedLog) -> int:
    text = log.prepared.manifest.get("text")
    return int(text["width"]) if text else 256


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class TableMemory:
    """Bytes of a learned table of product vectors.

    Attributes:
        training: Of all shards: weight, gradient and two moments of every number.
        each_shard: The largest shard's.
        serving: Of the weights alone, all shards.
    """

    training: int
    each_shard: int
    serving: int


def table_memory(products: int, width: int, *, shards: int = 1, buckets: int = 0) -> TableMemory:
    """Return what a float32 table of a vector per product takes, whole, sharded or hashed.

    Hashed, a product's vector is the sum of two rows out of `buckets`, by two hash functions
    (hash embeddings, Svenstrup et al. 2017), so that the table stays as it is however many
    products there are. Shards hold rows by turns.

    Args:
        products: How many there are.
        width: Of a vector.
        shards: Processes among which the rows are dealt.
        buckets: Rows of the hashed table; 0 gives each product a row.
    """
    rows = buckets or products
    row = width * _FLOAT
    largest = -(-rows // shards)
    return TableMemory(rows * row * 4, largest * row * 4, rows * row)
