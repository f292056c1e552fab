"""The embedded index: tantivy finds the matching products, numpy puts them in order."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import tantivy
from tqdm import tqdm

from deploy.demo.errors import IndexBuildError
from deploy.demo.retrieval.catalogue import Catalogue
from deploy.demo.retrieval.order import take_candidates
from deploy.demo.retrieval.retriever import (
    OWN_LIMIT,
    Retrieved,
    Surface,
    check_limit,
    own_limit,
    parse_surface,
)
from deploy.demo.retrieval.words import TYPO_LENGTH, query_words, words
from rerank_server.contract.page import Rows

WRITER_BYTES = 128_000_000
FILES_NAME = "files.json"


class TantivyIndex:
    """A `Retriever` in this process, over an index folder that is kept between runs."""

    def __init__(self, index: tantivy.Index, catalogue: Catalogue) -> None:
        """Search `index`, which holds `catalogue`; `open` makes both fit."""
        self._catalogue = catalogue
        self._schema = index.schema
        self._searcher = index.searcher()

    @classmethod
    def open(cls, folder: Path, catalogue: Catalogue, *, show_progress: bool = True) -> Self:
        """The index of `catalogue` under `folder`, built unless a whole one of it is there.

        Indices of other catalogues, and what a stopped build left, are removed.

        Raises:
            IndexBuildError: It cannot be written.
        """
        name = f"catalogue-{catalogue.content_hash[:16]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not _is_whole(folder / name):
                    _build(folder, name, catalogue, show_progress=show_progress)
                _remove_others(folder, name)
                index = tantivy.Index.open(str(folder / name))
        except (OSError, ValueError) as error:
            raise IndexBuildError(
                f"index in {folder}: got {error}, want a folder with room to write"
            ) from error
        _register_words(index)
        return cls(index, catalogue)

    def search(self, query: str, *, place: str | None, limit: int, own: Sequence[str]) -> Retrieved:
        """See `Retriever.search`."""
        check_limit(limit)
        wanted = query_words(query)
        matched = self._match([self._word_query(word) for word in wanted])
        approximate = bool(wanted) and matched.size == 0
        if approximate:
            matched = self._match([self._typo_query(word) for word in wanted])
        return take_candidates(
            self._catalogue,
            matched,
            place=place,
            limit=limit,
            own=own,
            own_limit=OWN_LIMIT,
            approximate=approximate and matched.size > 0,
        )

    def slot(
        self,
        surface: str,
        *,
        category: str | None,
        place: str | None,
        limit: int,
        own: Sequence[str],
        filter_ids: Sequence[str] | None = None,
    ) -> Retrieved:
        """See `Retriever.slot`. Slots need no words, so the catalogue alone answers them."""
        check_limit(limit)
        parsed = parse_surface(surface, category=category, place=place)
        rows = np.arange(len(self._catalogue.products), dtype=np.int32)
        if category is not None:
            rows = self._catalogue.category_rows(category)
        if parsed is Surface.PROMOTION and place is not None:
            listed = self._catalogue.places.of(place)
            rows = np.intersect1d(rows, listed.rows[listed.promoted])
        if filter_ids is not None:
            rows = np.intersect1d(rows, self._catalogue.rows_of_ids(filter_ids))
        return take_candidates(
            self._catalogue,
            rows,
            place=place,
            limit=limit,
            own=own,
            own_limit=own_limit(parsed),
        )

    def _word_query(self, word: str) -> tantivy.Query:
        return tantivy.Query.term_query(self._schema, "words", word, index_option="basic")

    def _typo_query(self, word: str) -> tantivy.Query:
        if len(word) < TYPO_LENGTH:
            return self._word_query(word)
        return tantivy.Query.fuzzy_term_query(
            self._schema, "words", word, distance=1, transposition_cost_one=True
        )

    def _match(self, queries: Sequence[tantivy.Query]) -> Rows:
        """Rows that match every query; none for no query."""
        if not queries:
            return np.zeros(0, np.int32)
        every = tantivy.Query.boolean_query([(tantivy.Occur.Must, query) for query in queries])
        unscored = tantivy.Query.const_score_query(every, 1.0)
        found = self._searcher.search(unscored, limit=self._searcher.num_docs, count=False)
        addresses = [address for _, address in found.hits]
        rows = self._searcher.fast_field_values("row", addresses)
        return np.array(rows, np.int32)


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("words", tokenizer_name="words", index_option="basic")
    builder.add_integer_field("row", fast=True)
    return builder.build()


def _register_words(index: tantivy.Index) -> None:
    """Let tantivy cut at spaces only: `words` has cut the text already."""
    whitespace = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build()
    index.register_tokenizer("words", whitespace)


def _build(folder: Path, name: str, catalogue: Catalogue, *, show_progress: bool) -> None:
    """Build beside the final place and move it there whole."""
    work = Path(tempfile.mkdtemp(prefix="incomplete-", dir=folder))
    index = tantivy.Index(_schema(), path=str(work))
    _register_words(index)
    with index.writer(WRITER_BYTES, num_threads=1) as writer:
        products = tqdm(
            catalogue.products, desc="index", unit=" products", disable=not show_progress
        )
        for row, product in enumerate(products):
            writer.add_document(tantivy.Document(words=" ".join(words(product.text)), row=row))
        writer.commit()
        writer.wait_merging_threads()
    hashes = {path.name: _hash(path) for path in sorted(work.iterdir()) if path.suffix != ".lock"}
    with (work / FILES_NAME).open("w") as manifest:
        json.dump(hashes, manifest)
        manifest.flush()
        os.fsync(manifest.fileno())
    shutil.rmtree(folder / name, ignore_errors=True)
    work.replace(folder / name)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_whole(folder: Path) -> bool:
    """Whether every file of the index is there and unchanged."""
    try:
        hashes = json.loads((folder / FILES_NAME).read_text())
        return all(_hash(folder / name) == digest for name, digest in hashes.items())
    except (OSError, ValueError):
        return False


def _remove_others(folder: Path, name: str) -> None:
    for pattern in ("catalogue-*", "incomplete-*"):
        for other in folder.glob(pattern):
            if other.name != name:
                shutil.rmtree(other, ignore_errors=True)
