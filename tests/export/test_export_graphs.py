"""The graphs of a bundle: what they hold, and what they never hold."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from clapedge.errors import ModelError
from clapedge.model.bundle import Bundle, Role, Variant
from clapedge.model.towers import AudioTower
from clapedge_export.graph_rules import FORBIDDEN_OPS, MAX_IR_VERSION, OPSET, check_graph, opset_of
from clapedge_export.graphs import half_precision
from clapedge_export.text_tower import TextTower

TOWERS: list[tuple[Role, Variant]] = [
    (role, variant) for role in ("audio", "text") for variant in ("fp32", "fp16", "int8")
]
BLOCKS = {"audio": 6, "text": 2}
NORMS = {"audio": 2 * 6 + 3 + 2, "text": 2 * 2 + 1}
"""LayerNorms: two a block, one a merge, and those of patches and output, or of embeddings."""


def graph_of(bundle: Bundle, role: Role, variant: Variant) -> ModelProto:
    return onnx.load(bundle.path(bundle.file(role, variant)))


def branch_of(bundle: Bundle) -> GraphProto:
    """Return what the INT8 audio tower computes for a longer clip alone."""
    (branch,) = (node for node in graph_of(bundle, "audio", "int8").graph.node if node.op_type == "If")
    taken: GraphProto = next(attribute.g for attribute in branch.attribute if attribute.name == "then_branch")
    return taken


def small_graph(*ops: str, opset: int = OPSET, ir_version: int = MAX_IR_VERSION, domain: str = "") -> ModelProto:
    """Make a graph of unary operators."""
    names = ["x", *(f"y{index}" for index in range(len(ops)))]
    nodes = [
        helper.make_node(op, [names[index]], [names[index + 1]], domain=domain if index else "")
        for index, op in enumerate(ops)
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in (names[0], names[-1])]
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(
        helper.make_graph(nodes, "small", ends[:1], ends[1:]), opset_imports=imports, ir_version=ir_version
    )


@pytest.mark.parametrize(("role", "variant"), TOWERS)
def test_every_graph_runs_on_the_oldest_runtime_and_has_no_path_that_depends_on_data(
    bundle: Bundle, role: Role, variant: Variant
) -> None:
    graph = graph_of(bundle, role, variant)
    onnx.checker.check_model(graph, full_check=True)
    census = Counter(node.op_type for node in graph.graph.node)
    branches = {"If"} if (role, variant) == ("audio", "int8") else set()  # it runs on CPUs alone, one clip at a time
    assert FORBIDDEN_OPS & census.keys() == branches
    assert (opset_of(graph), graph.ir_version <= MAX_IR_VERSION) == (OPSET, True)
    assert not any(tensor.external_data for tensor in graph.graph.initializer)


@pytest.mark.parametrize(("role", "variant"), TOWERS)
def test_layer_norm_gelu_and_softmax_are_one_node_each(bundle: Bundle, role: Role, variant: Variant) -> None:
    census = Counter(node.op_type for node in graph_of(bundle, role, variant).graph.node)
    norms = census["LayerNormalization"] + census["SkipLayerNormalization"]  # the addition before it included
    assert norms == NORMS[role]
    assert census["Gelu"] == census["Softmax"] == BLOCKS[role]
    assert not {"Erf", "Pow", "Conv", "BatchNormalization"} & census.keys()
    assert census["Sqrt"] == 1  # of the unit norm


@pytest.mark.parametrize(("role", "variant"), TOWERS)
def test_inputs_and_outputs_keep_their_names_types_and_symbolic_sizes(
    bundle: Bundle, role: Role, variant: Variant
) -> None:
    file = bundle.file(role, variant)
    described = [(tensor.name, tensor.dtype, tensor.shape) for tensor in (*file.inputs, *file.outputs)]
    rows = 1 if variant == "int8" else "batch"  # its scales are found in all that it is given: one row stays apart
    ids = [(name, "int64", (rows, "tokens")) for name in ("input_ids", "attention_mask")]
    features = [("input_features", "float32", (rows, 4, 1001, 64)), ("is_longer", "bool", (rows,))]
    expected = features if role == "audio" else ids
    assert described == [*expected, ("embeddings", "float32", (rows, 32))]


@pytest.mark.parametrize(("role", "variant"), TOWERS)
def test_a_graph_names_its_layers_and_nothing_of_the_machine_that_made_it(
    bundle: Bundle, role: Role, variant: Variant
) -> None:
    path = bundle.path(bundle.file(role, variant))
    content = path.read_bytes()
    for place in (Path(__file__).parents[2], Path(onnx.__file__).parents[1], Path.home()):
        assert str(place).encode() not in content
    graph = onnx.load(path).graph
    assert not any(node.metadata_props or node.doc_string for node in graph.node)
    assert not graph.value_info
    assert any(node.name.startswith("layers.0" if role == "text" else "resize/") for node in graph.node)


def test_int8_leaves_the_patches_the_attention_and_the_projection_in_float(bundle: Bundle) -> None:
    nodes = graph_of(bundle, "audio", "int8").graph.node
    left = [node.name for node in nodes if node.op_type in ("MatMul", "FusedMatMul", "Gemm", "FusedGemm")]
    integer = [node for node in nodes if node.op_type in ("DynamicQuantizeMatMul", "MatMulIntegerToFloat")]
    assert len(integer) == 6 * BLOCKS["audio"] + 3  # q, k, v, out, expand, contract of each block, and the merges
    assert any(name.startswith("patches") for name in left)
    assert sum("projection" in name for name in left) == 2
    assert sum(name.startswith("stages") for name in left) == 2 * BLOCKS["audio"]


def test_the_tables_of_an_int8_text_tower_are_int8_with_a_scale_a_row(bundle: Bundle) -> None:
    exact = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in graph_of(bundle, "text", "fp32").graph.initializer
    }
    found = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in graph_of(bundle, "text", "int8").graph.initializer
    }
    for table in ("words.weight", "positions.weight"):
        rows, scales = found[f"{table}_int8"], found[f"{table}_scale"]
        assert (rows.dtype, scales.shape, table in found) == (np.dtype(np.int8), (len(rows), 1), False)
        assert (np.abs(rows * scales - exact[table]) <= scales * 0.501).all()  # half a step, and its rounding


def test_attention_is_transposed_once_and_no_norm_follows_an_addition_of_tokens_in_the_patches(bundle: Bundle) -> None:
    nodes = graph_of(bundle, "audio", "int8").graph.node
    census = Counter(node.op_type for node in nodes if node.name.startswith("stages."))
    assert not {"Split", "Slice", "Squeeze"} & census.keys()
    assert census["Transpose"] == BLOCKS["audio"] + 3  # products have taken three of each block; merges have one each
    crops = branch_of(bundle)
    assert crops.node[-1].op_type == "Sub"


def test_int8_computes_crops_only_where_a_clip_is_longer(bundle: Bundle, mels: torch.Tensor) -> None:
    crops = branch_of(bundle)
    assert {node.name.partition("/")[0] for node in crops.node if node.op_type == "Gemm"} >= {"patches.local_proj"}
    tower = AudioTower(bundle.path(bundle.file("audio", "int8")))
    features = mels[:1].numpy()
    whole = np.repeat(features[:, :1], 4, axis=1)
    short, longer = np.zeros(1, np.bool_), np.ones(1, np.bool_)
    assert np.array_equal(tower.embed(features, short), tower.embed(whole, short))
    assert not np.allclose(tower.embed(features, longer), tower.embed(whole, longer), atol=1e-3)
    assert not np.allclose(tower.embed(features, longer), tower.embed(features, short), atol=1e-3)


def test_half_precision_stores_weights_in_two_bytes_and_converts_at_the_ends_alone(bundle: Bundle) -> None:
    graph = graph_of(bundle, "audio", "fp16").graph
    floats = [tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT]
    assert all(name.startswith(("resize.", "val_")) for name in floats), floats
    casts = [node.name.partition("/")[0] for node in graph.node if node.op_type == "Cast"]
    assert sorted(casts) == ["patches", "tower", "unit"]  # in the patches it is the flag that becomes a factor


@pytest.mark.parametrize(
    ("graph", "fault"),
    [
        (small_graph("Relu", "NonZero"), "1 NonZero"),
        (small_graph("Relu", opset=19), "opset 19"),
        (small_graph("Relu", ir_version=11), "IR version 11"),
        (small_graph("Relu", "Special", domain="vendor"), "operators of vendor"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_graph_that_breaks_a_rule_is_refused(graph: ModelProto, fault: str) -> None:
    with pytest.raises(ModelError, match=fault):
        check_graph(graph)


def test_a_graph_that_keeps_the_rules_passes() -> None:
    check_graph(small_graph("Relu", "Sigmoid"))


def test_half_precision_of_a_text_tower_keeps_its_end_in_float(fused_model: object) -> None:
    half = half_precision(TextTower(fused_model))  # type: ignore[arg-type]
    assert {parameter.dtype.itemsize for parameter in half.parameters()} == {2}
