from __future__ import annotations

from tests.trainer.reports.test_report import Balance
from trainer.reports.sheet import Section, Sheet, Table, sheet_text, write_sheet

SHEET = Sheet(
    "Two <runs>",
    ("a note",),
    (
        Section(
            "Figures",
            ("One & all.",),
            (Table(("task", "NDCG@10"), (("Search", ".5"), ("Discovery", ".25")), ("win", "")),),
            ('<svg role="img"><path d="M0 0"/></svg>',),
        ),
        Section("A picture alone", plots=("<svg></svg>",)),
    ),
)


def test_text_holds_everything_but_the_pictures():
    assert sheet_text(SHEET) == (
        "Two <runs>\na note\n\nFigures\nOne & all.\n\n"
        "task       NDCG@10\n------------------\nSearch          .5\nDiscovery      .25"
    )


def test_html_is_balanced_escaped_and_marks_rows(tmp_path):
    write_sheet(tmp_path / "sheet.html", SHEET)
    page = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert "<title>Two &lt;runs&gt;</title>" in page
    assert '<tr class="win"><td>Search</td>' in page
    assert "<tr><td>Discovery</td>" in page
    assert '<svg role="img">' in page
    assert 'href="#section-2"' in page
