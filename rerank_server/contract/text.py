"""From text to the token arrays of the graphs; trainer and server call the same function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from rerank_server.contract.errors import BundleError
from rerank_server.contract.page import Floats

MAX_TOKENS = 64
# A token is at least one character and rarely more than 16, so longer texts are cut before the
# tokeniser spends time on what would be cut after it.
_MAX_CHARACTERS = 4096

TokenIds: TypeAlias = npt.NDArray[np.int64]


class TextEncoder:
    """Tokenises texts with the tokeniser of a bundle; may be shared by threads."""

    def __init__(self, tokenizer_json: bytes) -> None:
        """Read a `tokenizer.json` of the `tokenizers` library.

        Raises:
            BundleError: When it cannot be read.
        """
        try:
            self._tokenizer = Tokenizer.from_buffer(tokenizer_json)
        except Exception as error:  # the library raises bare Exception
            raise BundleError(
                f"tokenizer.json: got {error}, want a file of the tokenizers library"
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def encode(self, texts: Sequence[str]) -> tuple[TokenIds, Floats]:
        """Return token ids and mask, both shape (texts, tokens), padded to the longest.

        Control characters count as spaces. A text without tokens is one masked token 0.
        """
        encodings = self._tokenizer.encode_batch(
            [clean_text(text) for text in texts], add_special_tokens=False
        )
        length = max([1, *(len(encoding) for encoding in encodings)])
        token_ids = np.zeros((len(texts), length), np.int64)
        mask = np.zeros((len(texts), length), np.float32)
        for row, encoding in enumerate(encodings):
            count = len(encoding)
            token_ids[row, :count] = encoding.ids
            mask[row, :count] = 1.0
        return token_ids, mask


def clean_text(text: str) -> str:
    """Return `text` with control characters and lone surrogates as spaces, runs of them as one."""
    shown = text[:_MAX_CHARACTERS]
    if not shown.isprintable():
        shown = "".join(character if character.isprintable() else " " for character in shown)
    return " ".join(shown.split())
