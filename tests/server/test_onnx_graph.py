"""Tests of reading the LongRoPE switch from a graph file."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tunesmith_server.errors import ModelError
from tunesmith_server.onnx_graph import rope_switch


def graph_file(tmp_path, comparison: str = "Greater", threshold: object = 4096, *, constant_node: bool = False):
    """A graph with an If on a comparison with a threshold."""
    tensor = numpy_helper.from_array(np.array(threshold, np.int64), "limit")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["out"], value=numpy_helper.from_array(np.zeros(1, np.float32)))],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])],
    )
    nodes = [helper.make_node("Constant", [], ["limit"], value=tensor)] if constant_node else []
    nodes += [
        helper.make_node(comparison, ["length", "limit"], ["is_long"]),
        helper.make_node("If", ["is_long"], ["out"], then_branch=branch, else_branch=branch),
    ]
    inputs = [helper.make_tensor_value_info("length", TensorProto.INT64, [])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [] if constant_node else [tensor])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph), path)
    return path


def test_a_real_export_tells_its_switch(plain, long):
    """The builder's LongRoPE graph switches at the original context; a plain one does not."""
    assert rope_switch(plain / "model.onnx") is None
    assert rope_switch(long / "model.onnx") == 64


@pytest.mark.parametrize("constant_node", [True, False])
@pytest.mark.parametrize("threshold", [1, 4096, 131072, 2**40])
def test_the_threshold_is_read_from_initializers_and_constants(tmp_path, threshold, constant_node):
    """Any 64-bit threshold is found, wherever the exporter put it."""
    assert rope_switch(graph_file(tmp_path, threshold=threshold, constant_node=constant_node)) == threshold


def test_an_integer_stored_in_the_typed_field_is_read(tmp_path):
    """Tensors may keep integers in `int64_data` instead of raw bytes."""
    path = graph_file(tmp_path)
    model = onnx.load(path)
    model.graph.initializer[0].CopyFrom(helper.make_tensor("limit", TensorProto.INT64, [], [77]))
    onnx.save(model, path)
    assert rope_switch(path) == 77


@pytest.mark.parametrize(("comparison", "threshold"), [("Less", 4096), ("Greater", [1, 2])])
def test_an_unknown_switch_is_refused(tmp_path, comparison, threshold):
    """A graph that switches on something else would be batched wrongly, so it is not served."""
    with pytest.raises(ModelError, match="no LongRoPE switch"):
        rope_switch(graph_file(tmp_path, comparison, threshold))


@pytest.mark.parametrize("content", [b"\xff" * 40, b"not an onnx file", b"\x3a\x7f\x00"])
def test_a_file_that_is_no_graph_is_refused(tmp_path, content):
    """Garbage gives an error that names the file, never a crash."""
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx"):
        rope_switch(path)
