"""A plain grpcio server around our own reranker: BUNDLE PRODUCTS PORT.

The same features, lookup and policy as our server, and none of its admission, deadlines, batching
or observation.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from rerank_server.convert import page_from_pb, response_to_pb
from rerank_server.pb import rerank_pb2 as pb
from rerank_server.reranker import Reranker


def main(bundle: str, products: str, port: str) -> None:
    """Serve until killed."""
    reranker = Reranker.open(bundle, products, threads=1)

    def rerank(request: pb.RerankRequest, _: Any) -> pb.RerankResponse:
        ranked = reranker.rerank(page_from_pb(request))
        return response_to_pb(ranked, queue_us=0, total_us=0, version="")

    class Handler(grpc.GenericRpcHandler):
        def service(self, _: Any) -> Any:
            return handler

    handler: Any = grpc.unary_unary_rpc_method_handler(
        rerank,
        request_deserializer=pb.RerankRequest.FromString,
        response_serializer=pb.RerankResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
