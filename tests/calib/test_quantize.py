from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from clapedge.arrays import Float32Array
from clapedge_calib.collect import Extremes
from clapedge_calib.layers import activations, find_layers, weight_of
from clapedge_calib.mixed_precision import Probe
from clapedge_calib.progress import Run
from clapedge_calib.quantize import Target, int8_weight, quantize_dynamic, quantize_static, tensorrt_faults
from clapedge_calib.ranges import Range
from clapedge_calib.smoothquant import choose_smoothing, smooth


@pytest.fixture(scope="module")
def tower() -> ModelProto:
    """Make a graph of four products; a MatMul and a Gemm whose weight lies the other way are between LayerNorms."""
    generator = np.random.default_rng(0)
    constants = {
        "first": generator.normal(size=(8, 8)),
        "scale": generator.uniform(0.5, 2, size=8),
        "shift": generator.normal(size=8),
        "a": generator.normal(size=(8, 6)),
        "b": generator.normal(size=(5, 6)),
        "bias": generator.normal(size=5),
        "one": np.ones(5),
        "c": generator.normal(size=(5, 4)),
    }
    nodes = [
        helper.make_node("MatMul", ["input_features", "first"], ["u"], name="patches.proj/MatMul_0"),
        helper.make_node(
            "LayerNormalization", ["u", "scale", "shift"], ["v"], name="stages.1.norm/LayerNormalization_1"
        ),
        helper.make_node("MatMul", ["v", "a"], ["w"], name="stages.1.qkv/MatMul_2"),
        helper.make_node("Tanh", ["w"], ["x"], name="stages.1/Tanh_3"),
        helper.make_node("Gemm", ["x", "b", "bias"], ["y"], name="stages.1.out/Gemm_4", transB=1),
        helper.make_node("LayerNormalization", ["y", "one"], ["z"], name="norm/LayerNormalization_5"),
        helper.make_node("MatMul", ["z", "c"], ["embeddings"], name="projection.linear1/MatMul_6"),
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
    assert activations(layers) == ("v", "x")


def test_layers_are_found_whatever_their_nodes_are_called(tower: ModelProto, rows: Float32Array) -> None:
    nameless = ModelProto()
    nameless.CopyFrom(tower)
    for node in nameless.graph.node:
        node.name = ""
    layers = find_layers(nameless)
    assert [layer.name for layer in layers] == ["w", "y"]
    ranges = {name: Range(-4, 4) for name in activations(layers)}
    named = quantize_static(tower, find_layers(tower), ranges, target="tensorrt")
    found = quantize_static(nameless, layers, ranges, target="tensorrt")
    assert np.array_equal(run(found, rows), run(named, rows))


def test_a_weight_has_one_scale_an_output_channel_and_is_kept_within_half_a_step() -> None:
    weight = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32) * np.array([1, 10, 0.1, 3], np.float32)
    rounded, scales = int8_weight(weight)
    assert rounded.min() >= -127
    assert scales.shape == (4,)
    assert np.all(np.abs(rounded * scales - weight) <= scales / 2 * 1.0001)


@pytest.mark.parametrize("target", ["cpu", "tensorrt", "arm"])
def test_a_static_tower_computes_nearly_the_same(tower: ModelProto, rows: Float32Array, target: Target) -> None:
    layers = find_layers(tower)
    quantized = quantize_static(tower, layers, {name: Range(-4, 4) for name in activations(layers)}, target=target)
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
    quantized = quantize_static(tower, layers, {"v": Range(-4, 4)}, target="cpu")
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
    ranges = {name: Range(-4, 4) for name in activations(layers)}
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    quantized = quantize_static(tower, layers, ranges, target="cpu")
    onnxruntime.InferenceSession(quantized.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert census(onnx.load(tmp_path / "optimised.onnx"))["MatMulIntegerToFloat"] == 2


def extremes_of(tower: ModelProto, rows: Float32Array) -> dict[str, Extremes]:
    layers = find_layers(tower)
    exposed = ModelProto()
    exposed.CopyFrom(tower)
    exposed.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in activations(layers)
    )
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    _, *values = session.run(None, {"input_features": rows})
    pairs = zip(activations(layers), values, strict=True)
    return {name: Extremes(value.min(axis=0), value.max(axis=0)) for name, value in pairs}


@pytest.fixture(scope="module")
def spiky(tower: ModelProto) -> ModelProto:
    """Give one channel of the LayerNorm a hundred times the range of the others, and take it back in the weight."""
    copy = ModelProto()
    copy.CopyFrom(tower)
    factors = np.where(np.arange(8) == 3, 100, 1).astype(np.float32)
    for tensor in copy.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if tensor.name in {"scale", "shift"}:
            tensor.CopyFrom(numpy_helper.from_array(value * factors, tensor.name))
        elif tensor.name == "a":
            tensor.CopyFrom(numpy_helper.from_array(value / factors[:, None], tensor.name))
    return copy


def test_a_smoothed_tower_computes_the_same_in_float_with_the_ranges_that_are_predicted(spiky: ModelProto) -> None:
    batch = np.random.default_rng(2).uniform(-1, 1, (64, 8)).astype(np.float32)
    smoothed, predicted = smooth(spiky, find_layers(spiky), extremes_of(spiky, batch), 0.5)
    onnx.checker.check_model(smoothed, full_check=True)
    assert run(smoothed, batch) == pytest.approx(run(spiky, batch), abs=1e-5)
    for name, measured in extremes_of(smoothed, batch).items():
        assert predicted[name].low == pytest.approx(measured.low, abs=1e-4)
        assert predicted[name].high == pytest.approx(measured.high, abs=1e-4)
    before, after = (extremes_of(each, batch)["v"].magnitude for each in (spiky, smoothed))
    assert after.max() / np.median(after) < before.max() / np.median(before) / 5


def test_smoothing_pays_for_a_tower_with_outliers(spiky: ModelProto) -> None:
    batch = np.random.default_rng(2).uniform(-1, 1, (64, 8)).astype(np.float32)
    layers, found = find_layers(spiky), extremes_of(spiky, batch)
    errors = []
    for each, extremes in ((spiky, found), smooth(spiky, layers, found, 0.5)):
        ranges = {name: values.whole for name, values in extremes.items()}
        quantized = quantize_static(each, layers, ranges, target="tensorrt")
        errors.append(float(np.abs(run(quantized, batch) - run(spiky, batch)).mean()))
    assert errors[1] < errors[0] / 3


def test_a_layer_norm_that_others_read_too_is_not_smoothed(spiky: ModelProto) -> None:
    batch = np.ones((1, 8), np.float32)
    read = ModelProto()
    read.CopyFrom(spiky)
    read.graph.output.append(helper.make_tensor_value_info("v", TensorProto.FLOAT, ["batch", 8]))
    smoothed, _ = smooth(read, find_layers(read), extremes_of(spiky, batch), 0.5)
    assert smoothed.SerializeToString() == read.SerializeToString()


class KnownErrors(Probe):
    """Errors that are known beforehand: without smoothing, then with each alpha."""

    def __init__(self, *errors: float) -> None:
        self.errors = iter(errors)

    def error(self, model: ModelProto) -> float:  # noqa: ARG002 - as of a probe
        return next(self.errors)


@pytest.mark.parametrize(
    ("errors", "alpha", "words"),
    [
        ((1e-3, 5e-4, 2e-4, 4e-4), 0.65, "alpha 0.65 brings the error from 1.0e-03 to 2.0e-04: smoothed"),
        ((1e-3, 2e-3, 2e-3, 95e-5), None, "alpha 0.8 brings the error from 1.0e-03 to 9.5e-04, which does not pay"),
    ],
)
def test_the_best_smoothing_is_used_if_it_pays_and_the_reason_is_given(
    spiky: ModelProto, errors: tuple[float, ...], alpha: float | None, words: str
) -> None:
    layers, found = find_layers(spiky), extremes_of(spiky, np.ones((1, 8), np.float32))
    run = Run(choose_smoothing(spiky, layers, found, lambda tower: tower.model, KnownErrors(*errors)))
    assert [progress.done for progress in run] == [1, 2, 3]
    tower = run.result
    assert tower.smoothing is not None
    assert tower.smoothing.alpha == alpha
    assert words in str(tower.smoothing)
    assert (tower.model is spiky) == (alpha is None)
