"""Gives every way in which Elasticsearch can fail its own error."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import NoReturn

from elasticsearch import ApiError, ConnectionTimeout, Elasticsearch, TransportError
from elasticsearch.helpers import BulkIndexError

from deploy.demo.errors import (
    ElasticsearchDownError,
    ElasticsearchIndexMissingError,
    ElasticsearchLateError,
    ElasticsearchRedError,
    ElasticsearchRefusedError,
    ElasticsearchUrlError,
    IndexBuildError,
)


def connect(url: str, timeout_s: float) -> Elasticsearch:
    """A client that tries once and waits for `timeout_s`.

    Raises:
        ElasticsearchUrlError: The address is none.
    """
    try:
        return Elasticsearch(url, request_timeout=timeout_s, max_retries=0, retry_on_timeout=False)
    except ValueError as error:
        raise ElasticsearchUrlError(
            f"Elasticsearch: got address {url!r}, want one like http://localhost:9200"
        ) from error


@contextlib.contextmanager
def named_errors(index: str, timeout_s: float) -> Iterator[None]:
    """Raise what the client raises inside the block as the demo's own errors.

    Raises:
        ElasticsearchLateError: No answer within `timeout_s`.
        ElasticsearchDownError: No connection.
        ElasticsearchIndexMissingError: There is no index of that name.
        ElasticsearchRedError: Shards of the index are missing.
        ElasticsearchRefusedError: Any other refusal.
        IndexBuildError: A product was refused.
    """
    try:
        yield
    except ConnectionTimeout as error:
        raise ElasticsearchLateError(
            f"Elasticsearch: got no answer in {timeout_s:g} s, want one in time"
        ) from error
    except TransportError as error:
        raise ElasticsearchDownError(
            f"Elasticsearch: got {error}, want a server that answers"
        ) from error
    except BulkIndexError as error:
        raise IndexBuildError(
            f"index {index!r}: got {len(error.errors)} products refused, the first with "
            f"{json.dumps(error.errors[0], default=str)[:500]}, want every product taken"
        ) from error
    except ApiError as error:
        raise_refusal(index, error.status_code, error.body)


def raise_refusal(index: str, status: int, body: object) -> NoReturn:
    """Raise the error that an answer with `status` and `body` means."""
    failure = body.get("error") if isinstance(body, dict) else None
    kind = failure.get("type") if isinstance(failure, dict) else None
    if status == HTTPStatus.NOT_FOUND and kind == "index_not_found_exception":
        raise ElasticsearchIndexMissingError(
            f"index {index!r}: got none of that name, want one; start the demo again to build it"
        )
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        raise ElasticsearchRedError(
            f"index {index!r}: got status red ({kind}), want all its shards to be there"
        )
    reason = failure.get("reason") if isinstance(failure, dict) else body
    raise ElasticsearchRefusedError(
        f"index {index!r}: got status {status} ({kind}: {str(reason)[:300]}), want 200"
    )
