"""Catalogue snapshots: what a product store is built from, as of one day."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from rerank_server.contract.atomic import atomic_folder
from rerank_server.contract.products import ProductTable
from rerank_server.contract.schema import Schema
from trainer.encoding.catalogue import Catalogue
from trainer.logs.named_vectors import vector_file

FORMAT_VERSION = 1


def write_snapshot(folder: Path, catalogue: Catalogue, table: ProductTable, schema: Schema) -> None:
    """Write every product with statistics, neighbours, factors and vectors; all or nothing.

    Category nodes are written by their whole path, the names under which the bundle's
    vocabulary knows them; an unknown node is an empty name, so that the others keep their level.
    """
    columns = [column.name for column in schema.product_columns]
    levels = catalogue.vocabulary.levels
    with atomic_folder(folder) as temporary:
        with (temporary / "products.jsonl").open("w", encoding="utf-8") as file:
            for row, record in enumerate(catalogue.records):
                nodes = [
                    levels[level][code - 1] if code > 0 else ""
                    for level, code in enumerate(catalogue.levels[row].tolist())
                ]
                line = {
                    "id": record["id"],
                    "text": record["text"],
                    "category": record["category"],
                    "category_path": [record["category"], *reversed(nodes)],
                    "brand": record["brand"],
                    "size": record["size"],
                    "columns": {
                        name: _plain(value)
                        for name, value in zip(columns, table.stats[row].tolist(), strict=True)
                    },
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        np.save(temporary / "factors.npy", table.factors[:-1].astype(np.float32))
        np.save(temporary / "neighbours.npy", table.neighbours[:-1].astype(np.int32))
        np.save(temporary / "neighbour_weights.npy", table.neighbour_weights[:-1])
        np.save(temporary / "gram.npy", table.gram.astype(np.float64))
        for vector in catalogue.vectors:
            np.save(temporary / vector_file(vector.name), vector.values[:-1].astype(np.float32))
        manifest = {"format_version": FORMAT_VERSION, "as_of_day": table.as_of_day}
        (temporary / "snapshot.json").write_text(json.dumps(manifest), encoding="utf-8")


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
