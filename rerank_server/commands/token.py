"""`crossrank token`: bearer tokens for the server's token file."""

from __future__ import annotations

from typing import Annotated

import typer

from rerank_server.commands.options import JsonFlag
from rerank_server.commands.output import write_json, write_notice, write_text

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Make bearer tokens."""


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Who will call with it.")],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Make a token: its entry for the token file on standard output, the token on standard error.

    The token itself is shown this once. With --json both are in one document.
    """
    from rerank_server.tokens import new_token

    token, entry = new_token(name)
    if as_json:
        write_json({"name": name, "token": token, "entry": entry})
        return
    write_text(entry)
    write_notice(token)
