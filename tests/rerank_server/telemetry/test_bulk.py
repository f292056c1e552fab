from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from rerank_server.telemetry.bulk import BulkError, BulkSender, BulkTooLargeError
from rerank_server.telemetry.document import Document
from tests.rerank_server.telemetry.bulk_endpoint import BulkEndpoint

DOCUMENTS = [Document(f"{number:032d}", b'{"user_query":"milk"}') for number in range(3)]


@pytest.fixture
def endpoint() -> Iterator[BulkEndpoint]:
    with BulkEndpoint() as started:
        yield started


def test_documents_are_created_once(endpoint: BulkEndpoint) -> None:
    sender = BulkSender(endpoint.url, "searches")
    assert sender.send(DOCUMENTS[:2]).created == 2
    again = sender.send(DOCUMENTS)
    assert (again.created, again.known, again.again) == (1, 2, ())
    assert list(endpoint.documents) == [document.document_id for document in DOCUMENTS]
    assert endpoint.requests[0][0] == "/searches/_bulk?require_data_stream=true"
    sender.close()


def test_each_document_has_an_outcome_of_its_own(endpoint: BulkEndpoint) -> None:
    rejected, busy = DOCUMENTS[0].document_id, DOCUMENTS[1].document_id
    endpoint.item_status = {rejected: 400, busy: 429}
    sender = BulkSender(endpoint.url, "searches")
    result = sender.send(DOCUMENTS)
    assert (result.created, result.rejected, result.again) == (1, 1, (DOCUMENTS[1],))
    sender.close()


def test_logins_and_keys_are_sent_as_elasticsearch_wants_them(endpoint: BulkEndpoint) -> None:
    login = endpoint.url.replace("http://", "http://shop:p%40ss@")
    for sender in (BulkSender(login, "searches"), BulkSender(endpoint.url, "searches", "a2V5")):
        sender.send(DOCUMENTS[:1])
        sender.close()
    sent = [headers["Authorization"] for _, headers in endpoint.requests]
    assert sent == ["Basic c2hvcDpwQHNz", "ApiKey a2V5"]


@pytest.mark.parametrize(("status", "cause"), [(401, "http_401"), (503, "http_503")])
def test_a_refused_request_says_its_status(endpoint: BulkEndpoint, status: int, cause: str) -> None:
    endpoint.fault = lambda _: status
    sender = BulkSender(endpoint.url, "searches")
    with pytest.raises(BulkError, match=f"got HTTP {status}, want 200") as raised:
        sender.send(DOCUMENTS)
    assert raised.value.cause == cause
    sender.close()


def test_a_request_that_is_too_large_is_an_error_of_its_own(endpoint: BulkEndpoint) -> None:
    endpoint.fault = lambda _: 413
    sender = BulkSender(endpoint.url, "searches")
    with pytest.raises(BulkTooLargeError, match="got 413 for 3 documents, want fewer"):
        sender.send(DOCUMENTS)
    sender.close()


def test_nobody_there_is_an_error_and_no_key_is_in_it() -> None:
    with BulkEndpoint() as endpoint:
        url = endpoint.url.replace("http://", "http://shop:secret@")
    sender = BulkSender(url, "searches")
    with pytest.raises(BulkError, match="want an answer of Elasticsearch") as raised:
        sender.send(DOCUMENTS)
    assert raised.value.cause == "connection"
    assert "secret" not in f"{raised.value}"


def test_a_server_that_says_nothing_is_given_up(endpoint: BulkEndpoint) -> None:
    def stall(_: list[str]) -> int:
        time.sleep(1.0)
        return 200

    endpoint.fault = stall
    sender = BulkSender(endpoint.url, "searches", timeout_s=0.1)
    with pytest.raises(BulkError, match="timed out"):
        sender.send(DOCUMENTS)
    sender.close()
