"""The table of faults: what went wrong, what the caller saw, and the test that did it for real.

`python -m tests.rerank_server.faults.table` writes it to `rerank_server/FAULTS.md`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

FILE = Path(__file__).resolve().parents[3] / "rerank_server" / "FAULTS.md"
ROOT = Path(__file__).resolve().parents[3]
MODULES = ("test_calls", "test_connections", "test_process", "test_scorer")
TestT = TypeVar("TestT", bound=Callable[..., Any])
_ROWS: dict[str, tuple[str, str]] = {}

# Faults whose tests stand beside the code that bears them.
ELSEWHERE = (
    ("certificate unknown to the server", "no connection: UNAVAILABLE", "test_tls.py"),
    ("certificate expired", "no connection: UNAVAILABLE", "test_tls.py"),
    ("token missing, unknown or expired", "UNAUTHENTICATED", "test_tokens.py"),
    ("bundle broken while it is loaded", "FAILED_PRECONDITION with the reason", "test_admin.py"),
    ("client that answers no ping", "its connection is closed", "test_serving_limits.py"),
    (
        "one of several processes paused while products change",
        "the change is acknowledged, `processes_behind` is 1",
        "processes/test_changing_products.py",
    ),
    (
        "a process killed before the others know of a change",
        "UNAVAILABLE; the others show the change",
        "processes/test_changing_products.py",
    ),
    (
        "a process cannot follow a change of bundles",
        "the change is made, `processes_restarted` is 1",
        "processes/test_supervisor.py",
    ),
    (
        "a process hangs before it serves",
        "nothing: the others answer, it is started anew",
        "processes/test_supervisor.py",
    ),
    (
        "product store built anew while it is served",
        "the new one with the changes over it, never a mixture",
        "test_rebuilt_stores.py",
    ),
)


def fault(what: str, sees: str) -> Callable[[TestT], TestT]:
    """Mark a test as a row of the table.

    Args:
        what: What goes wrong.
        sees: What the caller sees.
    """

    def mark(test: TestT) -> TestT:
        _ROWS[what] = (sees, f"faults/{Path(test.__code__.co_filename).name}")
        return test

    return mark


def table() -> str:
    """Return the whole document."""
    for module in MODULES:
        import_module(f"tests.rerank_server.faults.{module}")
    files = [f"faults/{module}.py" for module in MODULES]
    rows = [(what, sees, file) for what, (sees, file) in _ROWS.items()]
    rows.sort(key=lambda row: files.index(row[2]))  # whatever was imported first
    rows += ELSEWHERE
    lines = [f"| {what} | {sees} | `{file}` |" for what, sees, file in rows]
    return "\n".join(
        [
            "# Faults",
            "",
            "What goes wrong, and what the caller sees: never an exception's text. Each row is",
            "a test under `tests/rerank_server` that does it for real; this file is written by",
            "`python -m tests.rerank_server.faults.table`.",
            "",
            "| what goes wrong | the caller sees | test |",
            "|---|---|---|",
            *lines,
            "",
        ]
    )


def names_of_tests(file: str) -> list[str]:
    """Return the names of a file's tests."""
    tree = ast.parse((ROOT / "tests" / "rerank_server" / file).read_text(encoding="utf-8"))
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    ]


if __name__ == "__main__":
    # as a module of its own name, so that the tests mark the same table
    FILE.write_text(import_module("tests.rerank_server.faults.table").table(), encoding="utf-8")
