"""The static word vectors that come with the PyPI package `wordllama` (MIT)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from rerank_server.contract.page import Floats
from rerank_server.contract.text import TextEncoder
from trainer.errors import ConfigError


def _package_folder() -> Path:
    # found, not imported: the package's own loader wants the network
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise ConfigError("wordllama: got no such package, want it installed for its word vectors")
    return Path(spec.origin).parent


def read_word_vectors() -> Floats:
    """Return the vectors, shape (32000, 256), float32."""
    weights = load_file(_package_folder() / "weights" / "l2_supercat_256.safetensors")
    return weights["embedding.weight"].astype(np.float32)


def read_tokenizer() -> bytes:
    """Return the `tokenizer.json` that belongs to the vectors."""
    return (_package_folder() / "tokenizers" / "l2_supercat_tokenizer_config.json").read_bytes()


def text_vectors(texts: list[str], words: Floats, encoder: TextEncoder) -> Floats:
    """Return the mean word vector of each text at unit length, shape (texts, width).

    The same formula as `model.products.TextEncoder`, for texts encoded once and for all.
    """
    vectors = np.zeros((len(texts), words.shape[1]), np.float32)
    for start in range(0, len(texts), 4096):
        ids, mask = encoder.encode(texts[start : start + 4096])
        total = (words[ids] * mask[..., None]).sum(axis=1)
        length = np.sqrt((total * total).sum(axis=-1, keepdims=True) + 1e-12)
        vectors[start : start + 4096] = total / length
    return vectors
