"""`crossrank es`: Elasticsearch's configuration, product index and retrieval recipes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from es_plugin_config.apply import apply as apply_resources
from es_plugin_config.apply import compare
from es_plugin_config.cluster import Login, connect
from es_plugin_config.remove import remove as remove_resources
from es_plugin_config.remove import stored_data
from es_plugin_config.resources import read_resources
from rerank_server.commands.options import JsonFlag
from rerank_server.commands.output import write_json, write_notice, write_table, write_text
from rerank_server.contract.errors import RerankError

if TYPE_CHECKING:
    from es_plugin_config.catalogue import Catalogue
    from es_plugin_config.product_index import BuiltIndex, Progress
    from es_plugin_config.vectors import ProductVectors

app = typer.Typer(help="Configure Elasticsearch, and fill its product index.", no_args_is_help=True)

DRIFT = 1

Url = Annotated[
    str,
    typer.Option(
        "--url", help="Address of Elasticsearch, with user:password@ where it wants them."
    ),
]
ApiKeyFile = Annotated[
    Path | None, typer.Option(help="File with an API key in its encoded form, one line.")
]
CaFile = Annotated[Path | None, typer.Option(help="Certificates that sign the cluster's, PEM.")]
DEFAULT_URL = "http://localhost:9200"


class CommandUsageError(RerankError):
    """Options that do not go together, or a question that nobody can answer."""


@app.callback()
def _group() -> None:
    """Configure Elasticsearch, and fill its product index."""


@app.command("apply")
def apply(
    *,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
    ca_file: CaFile = None,
    check: Annotated[
        bool, typer.Option("--check", help="Show what differs as a diff; exit 1 if any does.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be put; put nothing.")
    ] = False,
) -> None:
    """Put templates, pipelines, scripts, roles and data streams; safe to repeat."""
    if check and dry_run:
        raise CommandUsageError("options: got --check and --dry-run, want one of them")
    resources = read_resources()
    with connect(Login(url, api_key_file, ca_file)) as client:
        if not (check or dry_run):
            apply_resources(client, resources, report=_write_step)
            return
        compared = compare(client, resources)
    if dry_run:
        for each in compared:
            if each.skipped:
                _write_step("would skip", f"{each.path} ({each.skipped})")
            else:
                _write_step("would put" if each.diff else "unchanged", each.path)
        return
    differing = [each for each in compared if each.diff]
    for each in differing:
        write_text(each.diff.rstrip("\n"))
    for each in compared:
        if each.skipped:
            write_notice(f"skipped {each.path} ({each.skipped})")
    write_text(f"{len(differing)} of {len(compared)} differ")
    if differing:
        raise typer.Exit(DRIFT)


@app.command("remove")
def remove(
    *,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
    ca_file: CaFile = None,
    with_data: Annotated[
        bool,
        typer.Option("--with-data", help="Delete the data streams and product indices as well."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take CrossRank's configuration out of a cluster; data stays unless told."""
    resources = read_resources()
    with connect(Login(url, api_key_file, ca_file)) as client:
        held = stored_data(client, resources)
        for name, count in held.items():
            fate = "will be DELETED" if with_data else "stays"
            write_notice(f"{name}: {count:,} documents, {fate}")
        if not yes:
            what = f"{len(resources)} resources" + (" and all that data" if with_data else "")
            typer.confirm(f"Remove {what} from {_shown(url)}?", abort=True, err=True)
        remove_resources(client, resources, with_data=with_data, report=_write_step)


@app.command("index")
def index(  # noqa: PLR0913 - one argument an option
    catalogue: Annotated[
        Path | None,
        typer.Argument(help="Parquet, JSON lines (also .gz), or the folder of a snapshot."),
    ] = None,
    *,
    from_index: Annotated[
        str | None, typer.Option(help="Read an index or alias of the same cluster instead.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Folder of the bundle whose product.onnx makes the vectors for kNN."),
    ] = None,
    alias: Annotated[str, typer.Option(help="Names the index in force.")] = "crossrank-products",
    id_field: Annotated[str, typer.Option(help="Column of the id; `_id` for an index's.")] = "id",
    text_field: Annotated[
        list[str] | None, typer.Option(help="Column that is searched; may be given several times.")
    ] = None,
    category_field: Annotated[str, typer.Option(help="Column of the category.")] = "category",
    path_field: Annotated[
        str, typer.Option(help="Column of the category's path, root first.")
    ] = "category_path",
    brand_field: Annotated[str, typer.Option(help="Column of the brand.")] = "brand",
    quantisation: Annotated[
        str, typer.Option(help="Of the vectors: none, int8, int4 or bbq.")
    ] = "int8",
    keep_source: Annotated[
        bool, typer.Option(help="Keep all columns, so that searches give them back.")
    ] = True,
    keep: Annotated[int, typer.Option(min=0, help="Older indices to keep.")] = 1,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Products of one request.")] = 500,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
    ca_file: CaFile = None,
) -> None:
    """Fill the product index from a catalogue; stopped, the same command goes on."""
    if (catalogue is None) == (from_index is None):
        raise CommandUsageError("catalogue: got none or two, want a file or --from-index")
    from es_plugin_config.catalogue import FieldNames, open_catalogue
    from es_plugin_config.product_index import IndexOptions, build_index
    from es_plugin_config.source_index import IndexCatalogue

    names = FieldNames(id_field, tuple(text_field or ["text"]), category_field, path_field)
    options = IndexOptions(
        alias, replace(names, brand=brand_field), quantisation, keep_source, batch, keep
    )
    vectors = None if bundle is None else _open_vectors(bundle)
    with connect(Login(url, api_key_file, ca_file)) as client, _progress() as progress:
        opened: Catalogue
        if catalogue is not None:
            opened = open_catalogue(catalogue)
        else:
            opened = IndexCatalogue(client, from_index or "")
        built = build_index(client, opened, options, vectors, progress)
    write_text(_summary(alias, built))


@app.command("search")
def search(  # noqa: PLR0913 - one argument an option
    query: Annotated[str, typer.Argument(help="What a shopper would type.")],
    *,
    recipe: Annotated[
        str, typer.Option(help="text, vector, hybrid, fused or balanced.")
    ] = "balanced",
    like: Annotated[
        list[str] | None,
        typer.Option(help="Id of a product to find neighbours of; may be given several times."),
    ] = None,
    index: Annotated[str, typer.Option(help="Index or alias to search.")] = "crossrank-products",
    category: Annotated[str, typer.Option(help="Only products of this category.")] = "",
    size: Annotated[int, typer.Option(min=1, max=1_000, help="Candidates at most.")] = 20,
    body: Annotated[
        bool, typer.Option("--body", help="Write the searches as JSON; search nothing.")
    ] = False,
    as_json: JsonFlag = False,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
    ca_file: CaFile = None,
) -> None:
    """Retrieve candidates by one of the recipes, to try them out."""
    from es_plugin_config.recipes import WITH_VECTOR, Wanted, mean_vector, retrieve, search_bodies

    wanted = Wanted(query, like=tuple(like or ()), category=category, size=size)
    with connect(Login(url, api_key_file, ca_file)) as client:
        if body:
            if recipe in WITH_VECTOR:
                wanted = replace(wanted, vector=mean_vector(client, index, wanted))
            for each in search_bodies(recipe, wanted):
                write_json(each)
            return
        found = retrieve(client, index, recipe, wanted)
    if as_json:
        write_json([asdict(candidate) for candidate in found])
        return
    write_table(
        ["rank", "id", "category", "score"],
        [[rank, each.id, each.category, each.score] for rank, each in enumerate(found, start=1)],
    )


def _open_vectors(bundle: Path) -> ProductVectors:
    from es_plugin_config.vectors import ProductVectors
    from rerank_server.contract.bundle import read_bundle
    from rerank_server.cores import available_cores

    return ProductVectors(read_bundle(bundle), threads=available_cores())


def _summary(alias: str, built: BuiltIndex) -> str:
    line = f"{alias} -> {built.name}: {built.products:,} products of {built.rows:,} rows"
    if built.products < built.rows:
        line += f", {built.rows - built.products:,} repeat an id (the last one stays)"
    if built.reused:
        line += ", whole already"
    if built.resumed_from:
        line += f", resumed at row {built.resumed_from:,}"
    if built.pauses:
        line += f", asked to wait {built.pauses} times"
    return line + "".join(f"\nremoved {name}" for name in built.removed)


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on standard error for as long as the block runs."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("index"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("index", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@app.command("inference")
def inference(
    *,
    reranker_url: Annotated[
        str, typer.Option(help="Address of the server's HTTP door as Elasticsearch sees it.")
    ],
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that the server wants.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the definition; put nothing.")
    ] = False,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
    ca_file: CaFile = None,
) -> None:
    """Put the inference endpoint (trial or enterprise licence) that calls the server."""
    from es_plugin_config.inference_endpoint import PATH, endpoint, put_endpoint

    token = "" if token_file is None else _read_token(token_file)
    if dry_run:
        write_json(endpoint(reranker_url, "..." if token else ""))
        return
    with connect(Login(url, api_key_file, ca_file)) as client:
        put_endpoint(client, endpoint(reranker_url, token))
    _write_step("put", PATH)


def _read_token(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CommandUsageError(
            f"token: got {reason} for {file}, want a file with a token"
        ) from error


def _write_step(action: str, path: str) -> None:
    write_text(f"{action} {path}")


def _shown(url: str) -> str:
    """The address without its password."""
    scheme, mark, rest = url.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"
