"""`crossrank store`: the product store that a server reads."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from rerank_server.commands.options import JsonFlag
from rerank_server.commands.output import write_json, write_table, write_text

if TYPE_CHECKING:
    from rerank_server.product_build import Progress
    from rerank_server.product_changes import ChangeLog

_PROGRESS_EVERY_S = 2.0
_LOG = logging.getLogger(__name__)

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Build, look at and change product stores."""


ChangesFolder = Annotated[
    Path, typer.Option(help="Folder of the log of changes that servers follow.")
]


@app.command("build")
def build(
    *,
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    snapshot: Annotated[Path, typer.Option(help="Folder of the catalogue snapshot.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    vectors: Annotated[
        str, typer.Option(help="What vectors are stored as: float32, float16 or int8.")
    ] = "float32",
    includes_changes: Annotated[
        Path | None,
        typer.Option(help="Folder of a log of changes that the snapshot holds already."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Build a product store from a catalogue snapshot; goes on where a killed build was."""
    from rerank_server.contract.bundle import read_bundle
    from rerank_server.cores import available_cores
    from rerank_server.one_line_log import configure_logging
    from rerank_server.onnx_graph import open_graphs
    from rerank_server.product_build import build_product_store
    from rerank_server.product_store import read_manifest

    configure_logging("info")
    whole = read_bundle(bundle)
    graphs = open_graphs(whole, threads=available_cores())
    through, log_name = (0, "") if includes_changes is None else _last_change(includes_changes)
    size = build_product_store(
        whole,
        graphs,
        snapshot,
        out,
        _log_progress(),
        vectors=vectors,
        changes_through=through,
        changes_log=log_name,
    )
    bundle_id, loss = whole.manifest.bundle_id, read_manifest(out).loss
    if as_json:
        write_json({"store": str(out), "products": size, "bundle_id": bundle_id, "loss": loss})
        return
    write_text(f"{out}: {size} products, bundle {bundle_id[:12]}")
    if loss:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in loss.items())
        write_text(f"{vectors} on the golden pages: {figures}")


@app.command("show")
def show(
    store: Annotated[Path, typer.Argument(help="Folder of the product store.")],
    *,
    changes: Annotated[
        Path | None, typer.Option(help="Folder of the log of changes; counts those to come.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what a product store holds, and how large its files are."""
    from dataclasses import asdict

    from rerank_server.product_store import read_manifest

    facts = asdict(read_manifest(store))
    if changes is not None:
        facts["changes_to_come"] = _changes_after(changes, facts["changes_through"])
    files = {path.name: path.stat().st_size for path in sorted(store.iterdir()) if path.is_file()}
    facts["bytes"] = sum(files.values())
    if as_json:
        write_json({**facts, "files": files})
        return
    for name, value in facts.items():
        write_text(f"{name}: {value}")
    write_text("")
    write_table(("file", "bytes"), list(files.items()))


@app.command("upsert")
def upsert(
    lines: Annotated[Path, typer.Argument(help="JSON lines of products; - is standard input.")],
    *,
    changes: ChangesFolder,
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle; products must fit it.")],
    as_json: JsonFlag = False,
) -> None:
    """Put products in place of what their ids stood for; servers see them within a second."""
    from rerank_server.contract.bundle import read_bundle
    from rerank_server.one_line_log import configure_logging
    from rerank_server.product_lines import upsert_lines

    configure_logging("info")
    whole = read_bundle(bundle)
    with _opened(lines) as file, _log_of(changes) as log:
        count = upsert_lines(log, whole, file, str(lines), _log_changes())
        _say_changed("products", count, log.last(), as_json=as_json)


@app.command("delete")
def delete(
    product_ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of products; none reads --file.")
    ] = None,
    *,
    changes: ChangesFolder,
    file: Annotated[Path | None, typer.Option(help="One id a line; - is standard input.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Let ids stand for no product; servers see it within a second."""
    from rerank_server.one_line_log import configure_logging
    from rerank_server.product_lines import delete_ids

    if (file is None) == (not product_ids):
        raise typer.BadParameter("got ids and --file or neither, want one of them")
    configure_logging("info")
    with _log_of(changes) as log:
        if file is None:
            count = delete_ids(log, product_ids or [], "ids", _log_changes())
        else:
            with _opened(file) as lines:
                ids = (line.decode(errors="replace").rstrip("\r\n") for line in lines)
                count = delete_ids(log, ids, str(file), _log_changes())
        _say_changed("ids", count, log.last(), as_json=as_json)


def _say_changed(what: str, count: int, last: int, *, as_json: bool) -> None:
    if as_json:
        write_json({what: count, "change": last})
    else:
        write_text(f"{count} {what} changed, up to change {last}")


@contextmanager
def _log_of(folder: Path) -> Iterator[ChangeLog]:
    from rerank_server.product_changes import ChangeLog

    with closing(ChangeLog(folder)) as log:
        yield log


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    from rerank_server.product_records import ProductError

    if str(path) == "-":
        yield sys.stdin.buffer
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise ProductError(f"{path}: got {error.strerror}, want a readable file") from error
    with file:
        yield file


def _last_change(folder: Path) -> tuple[int, str]:
    """Return the number of the newest change, and the log's name."""
    from rerank_server.product_changes import LOG_FILE, ChangeLogError

    if not (folder / LOG_FILE).is_file():  # a log begun here would say that it has no changes
        raise ChangeLogError(f"{folder}: got no {LOG_FILE}, want the folder of a log of changes")
    with _log_of(folder) as log:
        return log.last(), log.name


def _changes_after(folder: Path, after: int) -> int:
    with _log_of(folder) as log:
        return log.count(after)


def _log_changes() -> Callable[[int], None]:
    last = monotonic()

    def log(done: int) -> None:
        nonlocal last
        if monotonic() - last >= _PROGRESS_EVERY_S:
            last = monotonic()
            _LOG.info("changes appended", extra={"fields": {"done": done}})

    return log


def _log_progress() -> Progress:
    started = last = monotonic()

    def log(done: int, total: int) -> None:
        nonlocal last
        now = monotonic()
        if done < total and now - last < _PROGRESS_EVERY_S:
            return
        last = now
        rate = done / max(now - started, 1e-9)
        fields = {"done": done, "total": total, "per_s": round(rate)}
        _LOG.info("encoding products", extra={"fields": fields})

    return log
