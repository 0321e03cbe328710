"""The one fact of an ONNX graph that no session tells: where LongRoPE switches its rotary factors.

The model builder writes `If(Greater(total_sequence_length, original_context))` for Phi-3 128k and its kin, and the
generated `genai_config.json` does not carry the number. The server has no `onnx` package (nor protobuf), so this
module reads the three message types it needs from the wire format
(https://protobuf.dev/programming-guides/encoding, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith_server.errors import ModelError

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP_TYPE, _NODE_ATTRIBUTE = 1, 2, 4, 5
_TENSOR_INT64_DATA, _TENSOR_NAME, _TENSOR_RAW_DATA = 7, 8, 9
_ATTRIBUTE_TENSOR = 5
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Field = tuple[int, memoryview | int]


@dataclass
class _Node:
    op_type: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    constant: int | None = None


def rope_switch(path: Path) -> int | None:
    """The original context of a LongRoPE model: sequences longer than this use the long factors. None without a switch.

    Raises:
        ModelError: the file is not an ONNX model, or it switches on something that this reader does not know.
    """
    try:
        with path.open("rb") as file:
            # Unmapped when the last view is gone; closing it while an error's traceback holds one would fail.
            return _switch_of(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)), path)
    except (IndexError, UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"{path}: not an ONNX model: {error}") from error


def _switch_of(view: memoryview, path: Path) -> int | None:
    nodes, constants = _graph(view)
    producers = {output: node for node in nodes for output in node.outputs}
    conditions = {node.inputs[0] for node in nodes if node.op_type == "If"}
    switches = {_threshold(producers.get(condition), constants, path) for condition in conditions}
    if len(switches) > 1:
        raise ModelError(f"{path}: switches on several lengths ({sorted(switches)}); only one is supported")
    return switches.pop() if switches else None


def _threshold(node: _Node | None, constants: dict[str, int], path: Path) -> int:
    if node is None or node.op_type != "Greater" or node.inputs[1] not in constants:
        raise ModelError(f"{path}: has an If that is no LongRoPE switch; this server cannot batch such a model safely")
    return constants[node.inputs[1]]


def _graph(view: memoryview) -> tuple[list[_Node], dict[str, int]]:
    nodes: list[_Node] = []
    constants: dict[str, int] = {}
    for number, graph in _fields(view):
        if number != _MODEL_GRAPH or isinstance(graph, int):
            continue
        for kind, value in _fields(graph):
            if kind == _GRAPH_NODE and not isinstance(value, int):
                nodes.append(_node(value))
            elif kind == _GRAPH_INITIALIZER and not isinstance(value, int):
                name, integer = _tensor(value)
                constants |= {} if integer is None else {name: integer}
    constants |= {node.outputs[0]: node.constant for node in nodes if node.constant is not None}
    return nodes, constants


def _node(view: memoryview) -> _Node:
    node = _Node()
    for number, value in _fields(view):
        if isinstance(value, int):
            continue
        if number == _NODE_INPUT:
            node.inputs.append(_text(value))
        elif number == _NODE_OUTPUT:
            node.outputs.append(_text(value))
        elif number == _NODE_OP_TYPE:
            node.op_type = _text(value)
        elif number == _NODE_ATTRIBUTE:
            tensors = [tensor for kind, tensor in _fields(value) if kind == _ATTRIBUTE_TENSOR]
            for tensor in tensors:
                node.constant = None if isinstance(tensor, int) else _tensor(tensor)[1]
    return node


def _tensor(view: memoryview) -> tuple[str, int | None]:
    """A tensor's name and, if it is one 64-bit integer, its value."""
    name, integer = "", None
    for number, value in _fields(view):
        if number == _TENSOR_NAME and not isinstance(value, int):
            name = _text(value)
        elif number == _TENSOR_RAW_DATA and not isinstance(value, int) and len(value) == 8:
            integer = int.from_bytes(value, "little", signed=True)
        elif number == _TENSOR_INT64_DATA:
            integer = value if isinstance(value, int) else _varint(value, 0)[0]
    return name, integer


def _fields(view: memoryview) -> Iterator[Field]:
    offset = 0
    while offset < len(view):
        key, offset = _varint(view, offset)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, offset = _varint(view, offset)
            yield number, value
        elif wire in (_FIXED64, _FIXED32):
            offset += 8 if wire == _FIXED64 else 4
        elif wire == _BYTES:
            size, offset = _varint(view, offset)
            if offset + size > len(view):
                raise ValueError("truncated")
            yield number, view[offset : offset + size]
            offset += size
        else:
            raise ValueError(f"wire type {wire}")


def _varint(view: memoryview, offset: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[offset]
        value |= (byte & 0x7F) << shift
        offset, shift = offset + 1, shift + 7
        if byte < 0x80:
            return value, offset


def _text(view: memoryview) -> str:
    return bytes(view).decode()
