from __future__ import annotations

import os

import pytest

from trainer.atomic_text import write_text


def test_a_failed_write_leaves_the_old_text(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "report.html"
    write_text(path, "grüße")
    assert path.read_text(encoding="utf-8") == "grüße"

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "grüße"
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
