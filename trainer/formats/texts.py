"""Texts of a data folder as features read them: without markup, and no longer than needed."""

from __future__ import annotations

import html
import re

MOST_LETTERS = 5_000  # what follows in a description tells a ranking no more
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]{0,500}>", re.DOTALL | re.IGNORECASE)
_SPACE = re.compile(r"\s+")
_READ = 4 * MOST_LETTERS  # markup takes room, so that more is looked at than is kept


def plain_text(text: str) -> tuple[str, bool]:
    """Return a text without tags and entities, and whether it was cut short."""
    head = text[:_READ]
    if "<" in head or "&" in head:
        head = html.unescape(_MARKUP.sub(" ", head))
    plain = _SPACE.sub(" ", head).strip()
    return plain[:MOST_LETTERS], len(plain) > MOST_LETTERS or len(text) > _READ
