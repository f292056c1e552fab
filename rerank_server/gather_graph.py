"""The graph that reads product vectors by row, where the scorer runs.

It is written in ONNX's wire format (protobuf: field number and type, then the value) by the few
lines below, for the package `onnx` is no dependency of the server.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MATRIX, SCALES = "matrix", "scales"
PARTS = ("candidate", "sequence")  # of both: <part>_rows, <part>_mask -> <part>_vectors
_OPSET, _IR_VERSION = 17, 8
_FLOAT, _INT64 = 1, 7
_ELEMENT_TYPES = {"float32": _FLOAT, "float16": 10, "int8": 3}
_BYTES, _VARINT = 2, 0


def gather_graph(kind: str) -> bytes:
    """Return the graph for vectors stored as `kind`.

    vectors[p, c] = float(matrix[rows[p, c]]) * scales[rows[p, c]] * mask[p, c]; scales for int8
    only. Rows are int64, shape (pages, candidates), the mask is float32 of the same shape.
    """
    nodes: list[bytes] = []
    inputs = [_value(MATRIX, _ELEMENT_TYPES[kind], 2)]
    if kind == "int8":
        inputs.append(_value(SCALES, _FLOAT, 1))
    outputs = []
    for part in PARTS:
        rows, mask = f"{part}_rows", f"{part}_mask"
        inputs += [_value(rows, _INT64, 2), _value(mask, _FLOAT, 2)]
        outputs.append(_value(f"{part}_vectors", _FLOAT, 3))
        nodes.append(_node("Gather", [MATRIX, rows], f"{part}_stored"))
        nodes.append(_node("Cast", [f"{part}_stored"], f"{part}_float", to=_FLOAT))
        flat = mask
        if kind == "int8":
            flat = f"{part}_scaled_mask"
            nodes.append(_node("Gather", [SCALES, rows], f"{part}_scale"))
            nodes.append(_node("Mul", [f"{part}_scale", mask], flat))
        nodes.append(_node("Unsqueeze", [flat, "last"], f"{part}_factor"))
        factors = [f"{part}_float", f"{part}_factor"]
        nodes.append(_node("Mul", factors, f"{part}_vectors"))
    graph = b"".join(
        [
            *(_field(1, node) for node in nodes),
            _field(2, b"gather"),
            _field(5, _axis("last", 2)),
            *(_field(11, value) for value in inputs),
            *(_field(12, value) for value in outputs),
        ]
    )
    opset = _number(2, _OPSET)
    return _number(1, _IR_VERSION) + _field(7, graph) + _field(8, opset)


def _node(kind: str, inputs: Sequence[str], output: str, **attributes: int) -> bytes:
    named = b"".join(_field(1, name.encode()) for name in inputs)
    given = b"".join(
        _field(5, _field(1, name.encode()) + _number(3, value) + _number(20, 2))
        for name, value in attributes.items()
    )
    return named + _field(2, output.encode()) + _field(4, kind.encode()) + given


def _value(name: str, element_type: int, dimensions: int) -> bytes:
    """Describe a tensor of any size in each dimension."""
    shape = _field(1, b"") * dimensions
    tensor = _number(1, element_type) + _field(2, shape)
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _axis(name: str, axis: int) -> bytes:
    data = np.array([axis], "<i8").tobytes()
    return _number(1, 1) + _number(2, _INT64) + _field(8, name.encode()) + _field(9, data)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)
