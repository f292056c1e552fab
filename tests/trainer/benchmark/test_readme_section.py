"""A document's section between two markers."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.benchmark.readme_section import replace_section
from trainer.errors import ConfigError

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def test_only_the_text_between_the_markers_changes(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(f"# Shop\n{BEGIN}\nold\nlines\n{END}\nafter\n", encoding="utf-8")
    replace_section(document, BEGIN, END, "| new |")
    expected = f"# Shop\n{BEGIN}\n| new |\n{END}\nafter\n"
    assert document.read_text(encoding="utf-8") == expected
    replace_section(document, BEGIN, END, "| new |")
    assert document.read_text(encoding="utf-8") == expected


@pytest.mark.parametrize("text", ["no marker\n", f"{BEGIN}\nnever closed\n"])
def test_a_document_without_its_markers_is_refused_and_left_alone(
    tmp_path: Path, text: str
) -> None:
    document = tmp_path / "README.md"
    document.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"README\.md: got no markers, want"):
        replace_section(document, BEGIN, END, "section")
    assert document.read_text(encoding="utf-8") == text
