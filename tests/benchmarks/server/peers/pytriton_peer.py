"""Triton's server with a Python model around onnxruntime, through PyTriton: SCORER PORT."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from pytriton.model_config import ModelConfig, Tensor  # type: ignore[import-not-found]
from pytriton.triton import Triton, TritonConfig  # type: ignore[import-not-found]
from tensors import PeerScorer  # type: ignore[import-not-found]


def main(scorer: str, port: int) -> None:
    """Serve until killed."""
    peer = PeerScorer(scorer)

    def score(requests: Any) -> Any:
        return [
            {"probabilities": peer.score(request.data["page"].tobytes())} for request in requests
        ]

    config = TritonConfig(
        grpc_port=port,
        http_port=port + 1,
        metrics_port=port + 2,
        grpc_address="127.0.0.1",
        http_address="127.0.0.1",
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="scorer",
            infer_func=score,
            inputs=[Tensor(name="page", dtype=np.uint8, shape=(-1,))],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(-1, -1, -1))],
            config=ModelConfig(batching=False),
        )
        triton.serve()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
