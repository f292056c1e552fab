"""`crossrank bundle`: looks at bundles on disk, and changes the one a server answers with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rerank_server.commands.bundle_admin import canary, load, promote, roll_back, status
from rerank_server.commands.options import BundleFolder, JsonFlag
from rerank_server.commands.output import write_json, write_table, write_text

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Look at bundles, and change the one a server answers with."""


@app.command("show")
def show(bundle: BundleFolder, *, as_json: JsonFlag = False) -> None:
    """Say what a bundle holds, once every file of it is verified."""
    from rerank_server.commands.bundle_facts import bundle_facts

    facts = bundle_facts(bundle)
    if as_json:
        write_json(facts)
        return
    for name, value in facts.items():
        if not isinstance(value, dict):
            write_text(f"{name}: {_short(value)}")
    for name in ("objective_outputs", "objective_weights", "figures", "guard", "files"):
        if name == "guard" and not facts[name]:
            continue  # a bundle of a network without trees
        write_text("")
        write_table((name, ""), list(_flat(facts[name]).items()))


@app.command("verify")
def verify(bundle: BundleFolder, *, as_json: JsonFlag = False) -> None:
    """Verify every file of a bundle and replay its golden pages."""
    from rerank_server.contract.bundle import read_bundle
    from rerank_server.cores import available_cores
    from rerank_server.onnx_graph import check_golden, open_graphs

    whole = read_bundle(bundle)
    difference = check_golden(whole, open_graphs(whole, threads=available_cores()))
    manifest = whole.manifest
    pages = len(whole.golden.pages)
    if as_json:
        write_json(
            {
                "bundle_id": manifest.bundle_id,
                "created": manifest.created,
                "golden_pages": pages,
                "largest_difference": difference,
                "tolerance": manifest.tolerance,
            }
        )
        return
    write_text(f"{bundle}: bundle {manifest.bundle_id[:12]} of {manifest.created} is whole")
    write_text(
        f"{pages} golden pages differ by at most {difference:.3g}, within {manifest.tolerance:.3g}"
    )


@app.command("diff")
def diff(
    bundle: BundleFolder,
    other: Annotated[Path, typer.Argument(help="Folder of the bundle to compare it with.")],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Say what another bundle has otherwise: names, weights, figures, files. Exits with 0."""
    from rerank_server.commands.bundle_facts import bundle_facts, differences

    found = differences(_flat(bundle_facts(bundle)), _flat(bundle_facts(other)))
    if as_json:
        write_json([{"what": what, "one": one, "other": two} for what, one, two in found])
        return
    if not found:
        write_text("the bundles are the same")
        return
    rows = [(what, _short(one), _short(two), _change(one, two)) for what, one, two in found]
    write_table(("what", str(bundle), str(other), "change"), rows)


app.command("load")(load)
app.command("canary")(canary)
app.command("promote")(promote)
app.command("rollback")(roll_back)
app.command("status")(status)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _short(value: object) -> str:
    if isinstance(value, list):
        return f"{len(value)}: {', '.join(map(str, value[:12]))}{', ...' * (len(value) > 12)}"  # noqa: PLR2004 - what a line holds
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)[:64]


def _change(one: object, other: object) -> float | str | None:
    if isinstance(one, float) and isinstance(other, float):
        return other - one
    if isinstance(one, list) and isinstance(other, list):
        gone = [f"-{item}" for item in one if item not in other]
        return " ".join(gone + [f"+{item}" for item in other if item not in one]) or "order"
    return None
