"""The one rule that cuts catalogue text and queries into words, for every engine."""

from __future__ import annotations

import re
import unicodedata

from deploy.demo.errors import EmptyQueryError

WORD_LENGTH_LIMIT = 64
QUERY_WORDS_LIMIT = 32
# Shorter words have too many neighbours for one edit to mean a typing slip.
TYPO_LENGTH = 4

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> tuple[str, ...]:
    """The runs of letters and digits in `text`, lower case, each cut at 64 characters.

    Everything else (punctuation, symbols, emoji, control characters, query syntax) only
    separates words, so no text can be read as syntax by an engine.
    """
    # Folding can make new composed characters, hence the second normalisation.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return tuple(word[:WORD_LENGTH_LIMIT] for word in _WORD.findall(folded))


def query_words(query: str) -> tuple[str, ...]:
    """The distinct words of a query in their order; none when it holds only symbols.

    Words after the 32nd do not narrow the search.

    Raises:
        EmptyQueryError: Nothing but white space and control characters.
    """
    if not any(unicodedata.category(character)[0] not in "CZ" for character in query):
        raise EmptyQueryError(
            f"query: got {query[:40]!r}, want at least one visible character; "
            "a page without a query is a slot"
        )
    return tuple(dict.fromkeys(words(query)))[:QUERY_WORDS_LIMIT]
