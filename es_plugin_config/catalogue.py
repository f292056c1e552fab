"""A shop's catalogue as products: from JSON lines, Parquet, or a catalogue snapshot."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from rerank_server.contract.errors import RerankError, nearest
from rerank_server.contract.page import Floats

SNAPSHOT_FILE = "snapshot.json"
JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet",)
NUMBERS = ("price", "sales_28d", "sales_56d", "sales_91d")
MAX_ID_BYTES = 512  # what Elasticsearch takes as _id
_READ_BYTES = 1 << 20


class CatalogueError(RerankError):
    """A catalogue that cannot be read, or a product that breaks a rule."""


@dataclass(frozen=True, slots=True)
class FieldNames:
    """How a catalogue's columns are called; `a.b` reaches into objects.

    Attributes:
        id: The product's id; `_id` is an index's own.
        text: What is searched; several are joined.
        category: The category that is compared with others.
        category_path: Nodes from the root to the leaf; the category alone where there is none.
        brand: The brand.
    """

    id: str = "id"
    text: tuple[str, ...] = ("text",)
    category: str = "category"
    category_path: str = "category_path"
    brand: str = "brand"


@dataclass(frozen=True, slots=True)
class Product:
    """One product of a catalogue.

    Attributes:
        row: Its place in the catalogue, from 0.
        id: Never empty.
        text: May be empty.
        category: May be empty.
        category_path: Leaf last; may be empty.
        brand: May be empty.
        numbers: Those of `NUMBERS` that are known.
        source: As it came, all columns.
        factors: ALS factors, shape (width,), where the catalogue has them.
        vectors: Its named vectors, zeros for one that it does not have; those of a snapshot alone.
    """

    row: int
    id: str
    text: str
    category: str
    category_path: tuple[str, ...]
    brand: str
    numbers: Mapping[str, float]
    source: Mapping[str, Any] = field(default_factory=dict)
    factors: Floats | None = None
    vectors: Mapping[str, Floats] = field(default_factory=dict)


class Catalogue(Protocol):
    """Products in a fixed order."""

    @property
    def identity(self) -> str:
        """Hash of the whole content in hexadecimal; empty when it may change while it is read."""
        ...

    @property
    def count(self) -> int | None:
        """How many there are; None when that is not known beforehand."""
        ...

    def products(self, names: FieldNames, start: int) -> Iterator[Product]:
        """Yield the products from row `start` on.

        Raises:
            CatalogueError: At a row that is no product.
        """
        ...


def open_catalogue(path: Path) -> Catalogue:
    """Open a file by its ending, or a catalogue snapshot's folder.

    Raises:
        CatalogueError: There is nothing of the kind.
    """
    if (path / SNAPSHOT_FILE).is_file():
        return _JsonLines(
            path / "products.jsonl",
            factors=_read_rows(path / "factors.npy"),
            vectors={
                file.stem.removeprefix("vector_"): _read_rows(file)
                for file in sorted(path.glob("vector_*.npy"))
            },
        )
    if not path.is_file():
        raise CatalogueError(
            f"catalogue: got no file {path}, want one, or a folder with {SNAPSHOT_FILE}"
        )
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix in JSON_LINES:
        return _JsonLines(path)
    if suffix in PARQUET:
        return _Parquet(path)
    raise CatalogueError(
        f"catalogue {path}: got ending {path.suffix!r}, want one of "
        f"{', '.join((*JSON_LINES, *PARQUET))}"
    )


def product_from_row(
    row: int, value: Mapping[str, Any], names: FieldNames, where: str, factors: Floats | None = None
) -> Product:
    """Make a product of one row's columns.

    Args:
        row: From 0.
        value: Its columns.
        names: How they are called.
        where: What an error calls the row.
        factors: ALS factors, where there are any.

    Raises:
        CatalogueError: There is no id, or it is too long, or a number is none.
    """
    product_id = reach(value, names.id)
    if product_id is None:
        known = [str(key) for key in value]
        raise CatalogueError(
            f"{where}: got no {names.id!r}{nearest(names.id, known)}, want an id in each row"
        )
    spelled = str(product_id)
    if isinstance(product_id, dict | list) or not 1 <= len(spelled.encode()) <= MAX_ID_BYTES:
        raise CatalogueError(
            f"{where}: got id {spelled[:40]!r}, want a text of 1 to {MAX_ID_BYTES} bytes"
        )
    texts = [_texts(reach(value, name)) for name in names.text]
    path = tuple(_texts(reach(value, names.category_path)))
    category = " ".join(_texts(reach(value, names.category)))
    return Product(
        row=row,
        id=spelled,
        text=" ".join(text for found in texts for text in found),
        category=category,
        category_path=path or ((category,) if category else ()),
        brand=" ".join(_texts(reach(value, names.brand))),
        numbers=_numbers(value, where),
        source=value,
        factors=factors,
    )


def reach(value: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - any JSON value
    """The value under a name, reaching into objects at each dot; None where there is none."""
    if name in value:
        return value[name]
    head, dot, rest = name.partition(".")
    inner = value.get(head) if dot else None
    return reach(inner, rest) if isinstance(inner, Mapping) else None


class _JsonLines:
    """One JSON object a line."""

    def __init__(
        self,
        path: Path,
        factors: Floats | None = None,
        vectors: Mapping[str, Floats] | None = None,
    ) -> None:
        self._path = path
        self._factors = factors
        self._vectors = vectors or {}

    @cached_property
    def identity(self) -> str:
        arrays = [] if self._factors is None else [self._factors, *self._vectors.values()]
        extra = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
        return _hash_file(self._path, extra)

    @property
    def count(self) -> int | None:
        return None if self._factors is None else len(self._factors)

    def products(self, names: FieldNames, start: int) -> Iterator[Product]:
        with _open_lines(self._path) as file:
            for row, line in enumerate(islice(file, start, None), start):
                where = f"{self._path}:{row + 1}"
                try:
                    value = json.loads(line)
                except ValueError as error:
                    raise CatalogueError(f"{where}: got {error}, want a JSON object") from error
                if not isinstance(value, dict):
                    raise CatalogueError(f"{where}: got {type(value).__name__}, want an object")
                if self._factors is not None and row >= len(self._factors):
                    raise CatalogueError(
                        f"{where}: got more lines than factors, want {len(self._factors)}"
                    )
                factors = None if self._factors is None else self._factors[row]
                product = product_from_row(row, value, names, where, factors)
                held = {name: array[row] for name, array in self._vectors.items()}
                yield replace(product, vectors=held) if held else product


class _Parquet:
    """Rows of a Parquet file, read a row group at a time."""

    def __init__(self, path: Path) -> None:
        try:
            from pyarrow import parquet  # noqa: PLC0415 - only these catalogues need it
        except ImportError as error:
            raise CatalogueError(
                f"catalogue {path}: got no module {error.name!r}, want `pip install pyarrow`"
            ) from error
        self._path = path
        try:
            self._file = parquet.ParquetFile(path)
        except (OSError, ValueError) as error:  # pyarrow's errors are children of ValueError
            raise CatalogueError(f"catalogue {path}: got {error}, want Parquet") from error

    @cached_property
    def identity(self) -> str:
        return _hash_file(self._path)

    @property
    def count(self) -> int | None:
        return int(self._file.metadata.num_rows)

    def products(self, names: FieldNames, start: int) -> Iterator[Product]:
        row = 0
        for group in range(self._file.num_row_groups):
            rows = self._file.metadata.row_group(group).num_rows
            if row + rows <= start:
                row += rows
                continue
            for value in self._file.read_row_group(group).to_pylist():
                if row >= start:
                    yield product_from_row(row, value, names, f"{self._path}, row {row}")
                row += 1


def _open_lines(path: Path) -> IO[bytes] | gzip.GzipFile:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    return path.open("rb")


def _hash_file(path: Path, extra: bytes = b"") -> str:
    digest = hashlib.sha256(extra)
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _read_rows(path: Path) -> Floats:
    try:
        rows: Floats = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CatalogueError(f"{path}: got {error}, want the snapshot's {path.stem}") from error
    return rows


def _texts(value: object) -> list[str]:
    """The texts of a value that may be missing, one, or a list."""
    if value is None:
        return []
    values = value if isinstance(value, list | tuple) else [value]
    return [text for each in values if each is not None and (text := str(each).strip())]


def _numbers(value: Mapping[str, Any], where: str) -> dict[str, float]:
    numbers = {}
    for name in NUMBERS:
        number = reach(value, name)
        if number is None:
            number = reach(value, f"columns.{name}")
        if number is None:
            continue
        try:
            known = float(number)
        except (TypeError, ValueError) as error:
            raise CatalogueError(f"{where}: got {name} {number!r}, want a number") from error
        if math.isfinite(known):
            numbers[name] = known
    return numbers
