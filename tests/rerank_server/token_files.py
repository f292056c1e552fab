"""Token files for tests."""

from __future__ import annotations

from pathlib import Path

from rerank_server.tokens import new_token


def write_tokens(path: Path, *names: str, more: str = "") -> list[str]:
    """Write a file with a new token of each name and return the tokens; `more` goes to each."""
    made = [new_token(name) for name in names]
    path.write_text("\n".join(entry + more for _, entry in made), encoding="utf-8")
    return [secret for secret, _ in made]
