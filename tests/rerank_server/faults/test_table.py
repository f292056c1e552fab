"""The table of faults is that of the tests."""

from __future__ import annotations

from tests.rerank_server.faults.table import ELSEWHERE, FILE, names_of_tests, table


def test_the_document_is_the_table_of_the_tests():
    assert FILE.read_text(encoding="utf-8") == table()


def test_rows_of_other_files_have_tests_there():
    for _, _, file in ELSEWHERE:
        assert names_of_tests(file)
