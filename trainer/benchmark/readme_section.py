"""Text between two markers of a document, made of results."""

from __future__ import annotations

from pathlib import Path

from trainer.atomic_text import write_text
from trainer.errors import ConfigError


def replace_section(document: Path, begin: str, end: str, section: str) -> None:
    """Put `section` between the markers of a document, on lines of its own.

    Raises:
        ConfigError: When the markers are not there.
    """
    text = document.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise ConfigError(f"{document.name}: got no markers, want {begin!r} and {end!r}")
    before, rest = text.split(begin, 1)
    after = rest.split(end, 1)[1]
    write_text(document, f"{before}{begin}\n{section}\n{end}{after}")
