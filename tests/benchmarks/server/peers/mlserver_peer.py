"""MLServer with a runtime of our own around onnxruntime, which it has none of: SCORER PORT."""

from __future__ import annotations

import asyncio
import sys

from mlserver import MLModel, MLServer, ModelSettings, Settings  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput  # type: ignore[import-not-found]
from tensors import PeerScorer  # type: ignore[import-not-found]

SCORER = sys.argv[1] if len(sys.argv) > 1 else ""


class Scorer(MLModel):  # type: ignore[misc]
    """Scores packed pages."""

    async def load(self) -> bool:
        self.peer = PeerScorer(SCORER)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        data = payload.inputs[0].data.root
        probabilities = self.peer.score(data if isinstance(data, bytes) else data[0])
        output = ResponseOutput(
            name="probabilities",
            shape=list(probabilities.shape),
            datatype="FP32",
            data=probabilities.ravel().tolist(),
        )
        return InferenceResponse(model_name=self.name, outputs=[output])


async def main(port: int) -> None:
    """Serve until killed."""
    settings = Settings(
        parallel_workers=0,
        host="127.0.0.1",
        grpc_port=port,
        http_port=port + 1,
        metrics_endpoint=None,
        debug=False,
    )
    server = MLServer(settings)
    await server.start([ModelSettings(name="scorer", implementation=Scorer)])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[2])))
