"""Changes the bundle of a running server: load a challenger, give it pages, promote, roll back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from rerank_server.client.connection import Connection
from rerank_server.client.messages import call_error
from rerank_server.client.rerank_client import open_channel
from rerank_server.pb import admin_pb2 as pb
from rerank_server.pb.admin_pb2_grpc import AdminServiceStub

# Reading, checking and warming up a large bundle takes its time.
LOAD_TIMEOUT_MS = 600_000


@dataclass(frozen=True, slots=True)
class HeldBundles:
    """The bundles that a server holds, by content hash.

    Attributes:
        current_id: Answers every page that no canary takes.
        previous_id: What rolling back brings back; empty before the first change.
        challenger_id: Tried out beside it; empty when there is none.
        processes_restarted: Processes that could not follow the step and are started anew.
    """

    current_id: str
    previous_id: str = ""
    challenger_id: str = ""
    processes_restarted: int = 0


class BundleAdmin:
    """Calls the admin service of one server; each call is sent once.

    Every call raises `CallError`: with status "failed_precondition" when the server refuses the
    change, "unimplemented" when it was started without --admin, "permission_denied" or
    "unauthenticated" when the token has no right to it.
    """

    def __init__(self, connection: Connection) -> None:
        """Prepare to call.

        Raises:
            ServerAddressError: When a file of the connection cannot be read.
        """
        self._connection = connection
        self._channel = open_channel(connection)
        self._stub = AdminServiceStub(self._channel)

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
        self._channel.close()

    def load(
        self, bundle: Path, products: Path, *, timeout_ms: int = LOAD_TIMEOUT_MS
    ) -> HeldBundles:
        """Load a bundle with its product store, folders of the server's machine, as challenger."""
        request = pb.LoadBundleRequest(bundle_path=str(bundle), products_path=str(products))
        return self._call(self._stub.LoadBundle, request, timeout_ms / 1_000)

    def divert(self, *, canary_percent: float = 0.0, shadow: bool = False) -> HeldBundles:
        """Give the challenger a share of the shoppers, 0 to 100, or all pages in the shadow."""
        request = pb.DivertPagesRequest(canary_percent=canary_percent, shadow=shadow)
        return self._call(self._stub.DivertPages, request)

    def promote(self) -> HeldBundles:
        """Let the challenger answer every page."""
        return self._call(self._stub.PromoteBundle, pb.PromoteBundleRequest())

    def roll_back(self) -> HeldBundles:
        """Drop the challenger, or without one bring the previous bundle back."""
        return self._call(self._stub.RollBackBundle, pb.RollBackBundleRequest())

    def _call(
        self,
        method: Callable[..., Any],
        request: Any,  # noqa: ANN401 - one of four messages
        timeout_s: float | None = None,
    ) -> HeldBundles:
        timeout_s = timeout_s or self._connection.timeout_s
        try:
            response = method(request, timeout=timeout_s, metadata=self._connection.metadata())
        except grpc.RpcError as error:
            raise call_error(error, self._connection.address) from error
        held = response.bundles
        return HeldBundles(
            held.current_id, held.previous_id, held.challenger_id, held.processes_restarted
        )
