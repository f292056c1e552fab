"""A plain grpcio server around onnxruntime: SCORER PORT. Bytes in, bytes out, eight threads."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from tensors import PeerScorer  # type: ignore[import-not-found]


def main(scorer: str, port: str) -> None:
    """Serve until killed."""
    peer = PeerScorer(scorer)

    def score(data: bytes, _: Any) -> bytes:
        answer: bytes = peer.score(data).tobytes()
        return answer

    class Handler(grpc.GenericRpcHandler):
        def service(self, _: Any) -> Any:
            return handler

    handler: Any = grpc.unary_unary_rpc_method_handler(score)
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
