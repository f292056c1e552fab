"""Options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rerank_server.contract.errors import RerankError

if TYPE_CHECKING:
    from rerank_server.client.connection import Connection

SERVER = "localhost:50061"
_MAX_TOKEN_BYTES = 4_096

JsonFlag = Annotated[bool, typer.Option("--json", help="Write one JSON document, for programs.")]
BundleFolder = Annotated[Path, typer.Argument(help="Folder of the bundle.")]
ServerOption = Annotated[
    str, typer.Option("--server", metavar="HOST:PORT", help="Address of a running server.")
]
TokenFileOption = Annotated[
    Path | None, typer.Option("--token-file", help="File with the bearer token, one line.")
]
TlsCaOption = Annotated[
    Path | None,
    typer.Option("--tls-ca", help="PEM of who signed the server's certificate; means TLS."),
]
TlsClientOption = Annotated[
    Path | None,
    typer.Option("--tls-client", help="PEM of an own certificate and its key, for mTLS."),
]
TimeoutOption = Annotated[
    int, typer.Option("--timeout-ms", help="Longest time for one call.", min=1, max=600_000)
]


class TokenFileError(RerankError):
    """A file that holds no token."""


def connect(
    server: str,
    token_file: Path | None,
    tls_ca: Path | None,
    tls_client: Path | None,
    timeout_ms: int = 10_000,
) -> Connection:
    """Return the connection that the options describe.

    Raises:
        TokenFileError: When the token file cannot be read or holds more than a token.
        ServerAddressError: When the token would travel in clear text to another machine.
    """
    from rerank_server.client.connection import ClientTls, Connection

    tls = None
    if tls_ca is not None or tls_client is not None:
        tls = ClientTls(tls_ca, tls_client, tls_client)
    token = "" if token_file is None else _read_token(token_file)
    return Connection(server, timeout_ms=timeout_ms, tls=tls, token=token)


def read_cheaply(flag: Any) -> Any:  # noqa: ANN401 - an option of Typer's own Click
    """Return a flag of Typer's own, such as --help, absent by False instead of None.

    Typer imports pydantic to find out what None means: 0.2 s and 15 MB that a server needs not.
    """
    if flag is not None:
        flag.default = False
    return flag


def _read_token(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TokenFileError(f"{path}: got {error.strerror or error}, want a token") from error
    token = data[: _MAX_TOKEN_BYTES + 1].decode(errors="replace").strip()
    if not token or len(data) > _MAX_TOKEN_BYTES or any(character.isspace() for character in token):
        raise TokenFileError(f"{path}: got {len(data)} bytes that are no token, want one line")
    return token
