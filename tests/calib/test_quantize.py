from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from clapedge.mel import Float32Array
from clapedge_calib.layers import activations, find_layers, weight_of
from clapedge_calib.quantize import Target, int8_weight, quantize_dynamic, quantize_static, tensorrt_faults
from clapedge_calib.ranges import Range


@pytest.fixture(scope="module")
def tower() -> ModelProto:
    """Make a graph of a MatMul, a Gemm whose weight lies the other way, and a product that stays in float."""
    generator = np.random.default_rng(0)
    constants = {
        "a": generator.normal(size=(8, 6)),
        "b": generator.normal(size=(5, 6)),
        "bias": generator.normal(size=5),
        "c": generator.normal(size=(5, 4)),
    }
    nodes = [
        helper.make_node("MatMul", ["input_features", "a"], ["w"], name="stages.1.qkv/MatMul_1"),
        helper.make_node("Tanh", ["w"], ["x"], name="stages.1/Tanh"),
        helper.make_node("Gemm", ["x", "b", "bias"], ["y"], name="stages.1.out/Gemm_2", transB=1),
        helper.make_node("MatMul", ["y", "c"], ["embeddings"], name="projection.linear1/MatMul_3"),
    ]
    graph = helper.make_graph(
        nodes,
        "tower",
        [helper.make_tensor_value_info("input_features", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="module")
def rows() -> Float32Array:
    return np.random.default_rng(1).uniform(-1, 1, (1, 8)).astype(np.float32)


def run(model: ModelProto, rows: Float32Array) -> Float32Array:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input_features": rows})
    return np.asarray(found)


def census(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_layers_are_products_with_constants_except_the_first_and_the_last(tower: ModelProto) -> None:
    layers = find_layers(tower)
    assert [layer.name for layer in layers] == ["stages.1.qkv", "stages.1.out"]
    assert [weight_of(tower, layer).shape for layer in layers] == [(8, 6), (6, 5)]
    assert activations(layers) == ("input_features", "x")


def test_a_weight_has_one_scale_an_output_channel_and_is_kept_within_half_a_step() -> None:
    weight = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32) * np.array([1, 10, 0.1, 3], np.float32)
    rounded, scales = int8_weight(weight)
    assert rounded.min() >= -127
    assert scales.shape == (4,)
    assert np.all(np.abs(rounded * scales - weight) <= scales / 2 * 1.0001)


@pytest.mark.parametrize("target", ["cpu", "tensorrt", "arm"])
def test_a_static_tower_computes_nearly_the_same(tower: ModelProto, rows: Float32Array, target: Target) -> None:
    layers = find_layers(tower)
    quantized = quantize_static(tower, layers, {name: Range(-1, 1) for name in activations(layers)}, target=target)
    onnx.checker.check_model(quantized, full_check=True)
    assert census(quantized)["QuantizeLinear"] == 2
    assert run(quantized, rows) == pytest.approx(run(tower, rows), abs=0.1)


def test_a_dynamic_tower_computes_nearly_the_same_one_clip_at_a_time(tower: ModelProto, rows: Float32Array) -> None:
    quantized = quantize_dynamic(tower, find_layers(tower))
    onnx.checker.check_model(quantized, full_check=True)
    assert census(quantized)["MatMulInteger"] == 2
    assert quantized.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    assert run(quantized, rows) == pytest.approx(run(tower, rows), abs=0.1)


def test_layers_that_are_not_asked_for_stay_as_they_are(tower: ModelProto) -> None:
    layers = find_layers(tower)[:1]
    quantized = quantize_static(tower, layers, {"input_features": Range(-1, 1)}, target="cpu")
    assert census(quantized)["Gemm"] == 1
    assert {"b", "bias", "c"} <= {tensor.name for tensor in quantized.graph.initializer}
    assert "a" not in {tensor.name for tensor in quantized.graph.initializer}


def test_the_source_is_not_changed(tower: ModelProto) -> None:
    before = tower.SerializeToString()
    quantize_dynamic(tower, find_layers(tower))
    assert tower.SerializeToString() == before


def test_tensorrt_takes_the_symmetric_tower_and_no_other(tower: ModelProto) -> None:
    layers = find_layers(tower)
    ranges = {name: Range(-8, 4) for name in activations(layers)}
    assert tensorrt_faults(quantize_static(tower, layers, ranges, target="tensorrt")) == []
    assert tensorrt_faults(quantize_static(tower, layers, ranges, target="cpu"))
    assert tensorrt_faults(quantize_dynamic(tower, layers))


def test_onnx_runtime_multiplies_integers_and_not_floats(tower: ModelProto, tmp_path: Path) -> None:
    layers = find_layers(tower)
    ranges = {name: Range(-1, 1) for name in activations(layers)}
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    quantized = quantize_static(tower, layers, ranges, target="cpu")
    onnxruntime.InferenceSession(quantized.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert census(onnx.load(tmp_path / "optimised.onnx"))["MatMulIntegerToFloat"] == 2
