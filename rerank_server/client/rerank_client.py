"""The synchronous client; may be shared by threads."""

from __future__ import annotations

from time import perf_counter_ns
from types import TracebackType
from typing import Self

import grpc

from rerank_server.client.answer import RerankAnswer, ServerStatus, in_retrieval_order
from rerank_server.client.connection import Connection
from rerank_server.client.fallbacks import Fallbacks
from rerank_server.client.messages import (
    AnswerError,
    CallError,
    answer_from_pb,
    call_error,
    page_to_pb,
    status_from_pb,
)
from rerank_server.page import SearchPage
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.rerank_pb2_grpc import RerankServiceStub


class RerankClient:
    """Calls a server, and answers in retrieval order where the server does not.

    ```python
    with RerankClient(Connection("rerank:50061", timeout_ms=100)) as client:
        answer = client.rerank(SearchPage(["995242", "1029743"], query="milk"))
        print(answer.candidate_ids, answer.degraded_reason)
    ```

    Attributes:
        fallbacks: How many pages came back in retrieval order because no server answered, by
            reason.
    """

    def __init__(self, connection: Connection) -> None:
        """Prepare to call; nothing is sent before the first page.

        Raises:
            ServerAddressError: When a file of the connection cannot be read.
        """
        self._connection = connection
        self._channel = open_channel(connection)
        self._stub = RerankServiceStub(self._channel)
        self.fallbacks = Fallbacks()

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way end."""
        self._channel.close()

    def rerank(self, page: SearchPage, *, timeout_ms: int | None = None) -> RerankAnswer:
        """Return the page in the server's order, or in retrieval order with the reason why.

        Args:
            page: Candidates in retrieval order.
            timeout_ms: Longest time for this page; None means the connection's.

        Raises:
            PageError: When the page has what the wire does not carry.
        """
        began = perf_counter_ns()
        try:
            return self.ask(page, timeout_ms=timeout_ms)
        except CallError as error:
            status, detail = error.status, str(error)
        except AnswerError as error:
            status, detail = "wrong_answer", str(error)
        self.fallbacks.count(status)
        return in_retrieval_order(page, status, detail, (perf_counter_ns() - began) // 1_000)

    def ask(self, page: SearchPage, *, timeout_ms: int | None = None) -> RerankAnswer:
        """Return the server's answer; for programs that would rather know than fall back.

        Raises:
            PageError: As `rerank`.
            CallError: When the server refuses the page, or none answers in time.
            AnswerError: When what came belongs to another page.
        """
        request = page_to_pb(page)
        timeout_s = self._connection.timeout_s if timeout_ms is None else timeout_ms / 1_000
        began = perf_counter_ns()
        try:
            response = self._stub.Rerank(
                request, timeout=timeout_s, metadata=self._connection.metadata()
            )
        except grpc.RpcError as error:
            raise call_error(error, self._connection.address) from error
        return answer_from_pb(page, response, (perf_counter_ns() - began) // 1_000)

    def status(self, *, timeout_ms: int | None = None) -> ServerStatus:
        """Return what the server says of itself.

        Raises:
            CallError: When it does not answer in time.
        """
        timeout_s = self._connection.timeout_s if timeout_ms is None else timeout_ms / 1_000
        try:
            response = self._stub.GetServerStatus(
                pb.GetServerStatusRequest(),
                timeout=timeout_s,
                metadata=self._connection.metadata(),
            )
        except grpc.RpcError as error:
            raise call_error(error, self._connection.address) from error
        return status_from_pb(response)


def open_channel(connection: Connection) -> grpc.Channel:
    """Return a channel, not yet connected.

    Raises:
        ServerAddressError: When a file of the connection cannot be read.
    """
    credentials = connection.credentials()
    if credentials is None:
        return grpc.insecure_channel(connection.address, connection.options())
    return grpc.secure_channel(connection.address, credentials, connection.options())
