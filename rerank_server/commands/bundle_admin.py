"""The commands of `crossrank bundle` that change the bundle of a running server."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rerank_server.commands.options import (
    SERVER,
    JsonFlag,
    ServerOption,
    TlsCaOption,
    TlsClientOption,
    TokenFileOption,
    connect,
)
from rerank_server.commands.output import write_json, write_table, write_text

if TYPE_CHECKING:
    from rerank_server.client.bundle_admin import HeldBundles


def load(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle, on the server's machine.")],
    products: Annotated[Path, typer.Argument(help="Folder of its product store, there as well.")],
    *,
    server: ServerOption = SERVER,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_client: TlsClientOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Let a server load a bundle as challenger: verified and warmed up, without any page yet."""
    from rerank_server.client.bundle_admin import BundleAdmin

    with BundleAdmin(connect(server, token_file, tls_ca, tls_client)) as admin:
        _write_held(admin.load(bundle.absolute(), products.absolute()), as_json=as_json)


def canary(
    percent: Annotated[
        float, typer.Argument(help="Share of the shoppers that the challenger answers.", max=100)
    ],
    *,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Let it rerank all other pages too, to compare.")
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_client: TlsClientOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Give the challenger a share of the shoppers, 0 to 100."""
    from rerank_server.client.bundle_admin import BundleAdmin

    with BundleAdmin(connect(server, token_file, tls_ca, tls_client)) as admin:
        _write_held(admin.divert(canary_percent=percent, shadow=shadow), as_json=as_json)


def promote(
    *,
    server: ServerOption = SERVER,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_client: TlsClientOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Let the challenger answer every page."""
    from rerank_server.client.bundle_admin import BundleAdmin

    with BundleAdmin(connect(server, token_file, tls_ca, tls_client)) as admin:
        _write_held(admin.promote(), as_json=as_json)


def roll_back(
    *,
    server: ServerOption = SERVER,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_client: TlsClientOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Undo the last step: drop the challenger, or without one bring the previous bundle back."""
    from rerank_server.client.bundle_admin import BundleAdmin

    with BundleAdmin(connect(server, token_file, tls_ca, tls_client)) as admin:
        _write_held(admin.roll_back(), as_json=as_json)


def status(
    *,
    server: ServerOption = SERVER,
    token_file: TokenFileOption = None,
    tls_ca: TlsCaOption = None,
    tls_client: TlsClientOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what a server answers with, and what was seen of its challenger."""
    from rerank_server.client.rerank_client import RerankClient

    with RerankClient(connect(server, token_file, tls_ca, tls_client)) as client:
        served = client.status()
    if as_json:
        write_json(asdict(served))
        return
    write_text(f"bundle {served.bundle_id[:12]} of {served.bundle_created}")
    write_text(f"{served.products} products, {served.provider}, up {served.uptime_s:.0f} s")
    if served.challenger is None:
        write_text("no challenger")
        return
    write_table(("challenger", ""), list(served.challenger.items()))


def _write_held(held: HeldBundles, *, as_json: bool) -> None:
    if as_json:
        write_json(asdict(held))
        return
    for role in ("current", "previous", "challenger"):
        bundle_id = getattr(held, f"{role}_id")
        write_text(f"{role}: {bundle_id[:12] or 'none'}")
    if held.processes_restarted:
        write_text(f"{held.processes_restarted} processes could not follow and are started anew")
