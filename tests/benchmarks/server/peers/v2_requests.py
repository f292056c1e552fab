"""Turns packed pages into requests of the V2 inference protocol: IN OUT KIND, KIND UINT8 or BYTES.

Runs in the environment of MLServer, which brings the protocol's messages.

Both files hold messages, each after its length (4 bytes, big endian).
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from mlserver.grpc import dataplane_pb2 as v2  # type: ignore[import-not-found]


def main(source: str, target: str, kind: str) -> None:
    """Write one request for each page."""
    data = Path(source).read_bytes()
    at, out = 0, []
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        page = data[at + 4 : at + 4 + size]
        at += 4 + size
        raw = page if kind == "UINT8" else struct.pack("<I", len(page)) + page
        shape = [len(page)] if kind == "UINT8" else [1]
        tensor = v2.ModelInferRequest.InferInputTensor(name="page", datatype=kind, shape=shape)
        request = v2.ModelInferRequest(model_name="scorer", inputs=[tensor])
        request.raw_input_contents.append(raw)
        message = request.SerializeToString()
        out += [struct.pack(">I", len(message)), message]
    Path(target).write_bytes(b"".join(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
