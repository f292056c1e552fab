"""From text to the token arrays of the graphs; trainer and server call the same function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from rerank_server.contract.errors import BundleError
from rerank_server.contract.page import Floats

MAX_TOKENS = 64
# A token is at least one character and rarely more than 16, so longer texts are cut before the
# tokeniser spends time on what would be cut after it.
_CHARACTERS_PER_TOKEN = 64
_MAX_CHARACTERS = MAX_TOKENS * _CHARACTERS_PER_TOKEN

TokenIds: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TextSettings:
    """How texts become tokens.

    Attributes:
        max_tokens: Tokens of a text at most; what is behind them is cut.
        special_tokens: Whether the tokeniser adds its marks of begin and end, which sentence
            encoders want; an empty text stays without.
    """

    max_tokens: int = MAX_TOKENS
    special_tokens: bool = False


class TextEncoder:
    """Tokenises texts with the tokeniser of a bundle; may be shared by threads."""

    def __init__(self, tokenizer_json: bytes, settings: TextSettings | None = None) -> None:
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
        self._settings = settings or TextSettings()
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self._settings.max_tokens)

    def encode(self, texts: Sequence[str]) -> tuple[TokenIds, Floats]:
        """Return token ids and mask, both shape (texts, tokens), padded to the longest.

        Control characters count as spaces. A text without tokens is one masked token 0.
        """
        most = self._settings.max_tokens * _CHARACTERS_PER_TOKEN
        cleaned = [clean_text(text, most) for text in texts]
        encodings = self._tokenizer.encode_batch(
            cleaned, add_special_tokens=self._settings.special_tokens
        )
        length = max([1, *(len(encoding) for encoding in encodings)])
        token_ids = np.zeros((len(texts), length), np.int64)
        mask = np.zeros((len(texts), length), np.float32)
        for row, encoding in enumerate(encodings):
            count = len(encoding) if cleaned[row] else 0
            token_ids[row, :count] = encoding.ids[:count]
            mask[row, :count] = 1.0
        return token_ids, mask


def clean_text(text: str, most: int = _MAX_CHARACTERS) -> str:
    """Return `text` with control characters and lone surrogates as spaces, runs of them as one.

    Only the first `most` characters are read.
    """
    shown = text[:most]
    if not shown.isprintable():
        shown = "".join(character if character.isprintable() else " " for character in shown)
    return " ".join(shown.split())
