"""A page's tensors as one run of bytes, and the scorer that takes them; for every peer alike."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort


def pack(arrays: Mapping[str, Any]) -> bytes:
    """Return arrays as bytes: the length of a JSON header, the header, the data."""
    header = [[name, str(array.dtype), array.shape] for name, array in arrays.items()]
    text = json.dumps(header).encode()
    data = [np.ascontiguousarray(array).tobytes() for array in arrays.values()]
    return struct.pack("<I", len(text)) + text + b"".join(data)


def unpack(data: Any) -> dict[str, Any]:
    """Return the arrays of `pack`, without a copy."""
    view = memoryview(data)
    (size,) = struct.unpack_from("<I", view)
    at = 4 + size
    arrays = {}
    for name, kind, shape in json.loads(bytes(view[4:at])):
        count = int(np.prod(shape))
        array = np.frombuffer(view, kind, count, at)
        arrays[name] = array.reshape(shape)
        at += array.nbytes
    return arrays


class PeerScorer:
    """The bundle's scorer.onnx with one thread a call, as our server runs it."""

    def __init__(self, path: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(
            Path(path).read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self._names = {item.name for item in self._session.get_inputs()}

    def score(self, data: Any) -> Any:
        """Return the probabilities of a packed page, float32."""
        arrays = {name: value for name, value in unpack(data).items() if name in self._names}
        return self._session.run(["probabilities"], arrays)[0]
