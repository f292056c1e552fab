"""A page in a file: a RerankRequest as protobuf's JSON, the form that the HTTP door takes too."""

from __future__ import annotations

import sys
from pathlib import Path

from google.protobuf import json_format

from rerank_server.contract.errors import PageError
from rerank_server.convert import page_from_pb
from rerank_server.page import SearchPage
from rerank_server.pb import rerank_pb2 as pb

MAX_BYTES = 4 * 1024 * 1024
STANDARD_INPUT = Path("-")


def read_page(path: Path) -> SearchPage:
    """Return the page in a file, or on standard input for "-".

    Raises:
        PageError: When it cannot be read, is no RerankRequest, or breaks a rule of the proto.
    """
    try:
        if path == STANDARD_INPUT:
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PageError(f"{path}: got {error.strerror or error}, want a page as JSON") from error
    if len(data) > MAX_BYTES:
        raise PageError(f"{path}: got more than {MAX_BYTES} bytes, want fewer")
    try:
        request = json_format.Parse(data, pb.RerankRequest())
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error)[:300]
        raise PageError(f"{path}: got {reason}, want a RerankRequest as JSON") from error
    return page_from_pb(request)
