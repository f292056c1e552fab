"""A rerank server that answers wrongly in one chosen way; its order is retrieval turned round."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import grpc

from rerank_server.pb import rerank_pb2 as pb
from rerank_server.pb.rerank_pb2_grpc import (
    RerankServiceServicer,
    add_RerankServiceServicer_to_server,
)
from tests.rerank_server.gateway.running import in_thread


class WrongService(RerankServiceServicer):
    """Answers as `fault` says: fewer, more, unknown, twice, nan, slow, failing or nothing."""

    def __init__(self) -> None:
        self.fault = ""
        self.requests: list[pb.RerankRequest] = []

    async def Rerank(self, request, context):  # noqa: N802 - gRPC's name
        self.requests.append(request)
        if self.fault == "slow":
            await asyncio.sleep(5)
        if self.fault == "overloaded":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")
        if self.fault == "failing":
            raise RuntimeError("on purpose")
        order = list(range(len(request.candidate_ids)))[::-1]
        ids = [request.candidate_ids[place] for place in order]
        scores = [1.0 - place / len(ids) for place in range(len(ids))]
        if self.fault == "fewer":
            ids, scores, order = ids[:-1], scores[:-1], order[:-1]
        if self.fault == "more":
            ids, scores, order = [*ids, "x"], [*scores, 0.0], [*order, len(order)]
        if self.fault == "unknown":
            ids[0] = "nobody"
        if self.fault == "twice":
            ids[0] = ids[1]
        if self.fault == "nan":
            scores[0] = float("nan")
        hidden = 0
        if self.fault == "hiding":
            hidden, ids, scores, order = 3, ids[:-3], scores[:-3], order[:-3]
        return pb.RerankResponse(
            candidate_ids=ids,
            scores=scores,
            retrieval_ranks=order,
            bundle_id="b",
            policy_trace=pb.PolicyTrace(hidden=hidden) if hidden else None,
        )

    async def GetServerStatus(self, request, context):  # noqa: N802 - gRPC's name
        return pb.GetServerStatusResponse(bundle_id="b")


@contextlib.contextmanager
def wrong_server() -> Iterator[tuple[str, WrongService]]:
    """The service on a free port; gives its address and itself."""
    service = WrongService()

    @asynccontextmanager
    async def serve() -> AsyncIterator[str]:
        server = grpc.aio.server()
        add_RerankServiceServicer_to_server(service, server)
        port = server.add_insecure_port("localhost:0")
        await server.start()
        try:
            yield f"localhost:{port}"
        finally:
            await server.stop(0)

    with in_thread(serve) as address:
        yield address, service
