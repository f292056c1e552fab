"""Vectors of a log's texts by a sentence encoder, made once and kept in the prepared folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rerank_server.contract.page import Floats
from rerank_server.contract.text import TextEncoder
from trainer.encoding.dataset import Prepared
from trainer.encoding.sentence_encoder import SentenceEncoder, read_sentence_encoder
from trainer.encoding.words import read_tokenizer, read_word_vectors, text_vectors
from trainer.errors import PreparedError
from trainer.logs.log_config import LogConfig

STATIC = "static"
_MODEL, _TOKENIZER = "text_encoder.onnx", "text_tokenizer.json"
_FILES = {"products": "text_products", "queries": "text_queries", "categories": "text_categories"}


@dataclass(frozen=True, slots=True)
class TextVectors:
    """Text vectors of a log.

    Attributes:
        products: Shape (products + 1, width); the last row is of the empty text.
        queries: Shape (queries + 1, width), alike.
        categories: Shape (categories, width).
        sentences: What made them; None for the static word vectors.
    """

    products: Floats
    queries: Floats
    categories: Floats
    sentences: SentenceEncoder | None


def encoder_files(config: LogConfig, folder: Path) -> tuple[Path, Path]:
    """Return where the configured sentence encoder and its tokeniser lie."""
    model = folder / config.text_encoder
    tokenizer = folder / config.text_tokenizer if config.text_tokenizer else None
    return model, tokenizer or model.with_name("tokenizer.json")


class TextVectorMaker:
    """Turns texts into vectors as the configuration says."""

    def __init__(self, config: LogConfig, folder: Path, *, progress: bool = False) -> None:
        """Read the encoder, or the static word vectors; `progress` draws a bar while it works.

        Raises:
            LogFileError: The encoder cannot be read.
        """
        self.sentences: SentenceEncoder | None = None
        self._files: tuple[Path, Path] | None = None
        self._most = config.text_max_tokens
        self._progress = progress
        if config.text_encoder != STATIC:
            self._files = encoder_files(config, folder)
            self.sentences = read_sentence_encoder(*self._files, self._most)
        else:
            self._words, self._static = read_word_vectors(), TextEncoder(read_tokenizer())

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self._words.shape[1]) if self.sentences is None else self.sentences.width

    def vectors(self, texts: Sequence[str]) -> Floats:
        """Return the vector of each text, shape (texts, width); zeros for an empty one."""
        if self.sentences is None:
            return text_vectors(list(texts), self._words, self._static)
        return self.sentences.vectors(texts, progress=self._progress)

    def write(
        self,
        target: Path,
        products: Sequence[str],
        queries: Sequence[str],
        categories: Sequence[str],
    ) -> dict[str, Any] | None:
        """Write what a sentence encoder makes of a log's texts, and the encoder; None for static.

        Returns:
            What the manifest says of it.
        """
        if self.sentences is None or self._files is None:
            return None
        texts = {
            "products": [*products, ""],
            "queries": [*queries, ""],
            "categories": [name.replace("_", " ") for name in categories],
        }
        for name, file in _FILES.items():
            np.save(target / f"{file}.npy", self.vectors(texts[name]))
        for source, kept in zip(self._files, (_MODEL, _TOKENIZER), strict=True):
            shutil.copyfile(source, target / kept)
        return {"max_tokens": self._most, "width": self.sentences.width}


def read_text_vectors(prepared: Prepared, products: Sequence[str]) -> TextVectors:
    """Return the text vectors of a prepared log; `products` are the texts of its products.

    Raises:
        PreparedError: A file of the folder is missing or cut.
        LogFileError: The encoder in the folder cannot be read.
    """
    entry = prepared.manifest.get("text")
    if entry is None:
        words, encoder = read_word_vectors(), TextEncoder(read_tokenizer())
        names = [name.replace("_", " ") for name in prepared.categories]
        return TextVectors(
            text_vectors([*products, ""], words, encoder),
            text_vectors([*prepared.queries, ""], words, encoder),
            text_vectors(names, words, encoder),
            None,
        )
    sentences = read_sentence_encoder(
        prepared.path / _MODEL, prepared.path / _TOKENIZER, entry["max_tokens"]
    )
    rows = {
        "products": prepared.size + 1,
        "queries": len(prepared.queries) + 1,
        "categories": len(prepared.categories),
    }
    arrays: dict[str, Floats] = {}
    for name, file in _FILES.items():
        path = prepared.path / f"{file}.npy"
        try:
            arrays[name] = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise PreparedError(f"{path.name}: got {error}, want a whole numpy array") from error
        if arrays[name].shape != (rows[name], sentences.width):
            raise PreparedError(
                f"{path.name}: got shape {arrays[name].shape}, want"
                f" ({rows[name]}, {sentences.width})"
            )
    return TextVectors(**arrays, sentences=sentences)
