"""Half precision, read from the graph itself: every value of it stays far below 65504, and rounding costs little."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from transformers import ClapModel

from clapedge.errors import ModelError, ParityError
from clapedge.features.front_end import FrontEnd
from clapedge.model.bundle import Bundle
from clapedge_export import ExportOptions, export_bundle, graph_rules, graphs
from clapedge_export.audio_tower import AudioTower
from clapedge_export.half_arithmetic import LARGEST_HALF, MARGIN, HalfArithmetic
from clapedge_export.signals import extreme_clips

if TYPE_CHECKING:
    from clapedge_export.layers import Original

LEAST_COSINE = 0.9999
"""As promised to users of fp16; rounding alone leaves about 0.999999."""


def half_graph(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> ModelProto:
    """Make a graph from float32 `x` (N, 4) to float32 `y`; its nodes turn half precision `a` into `b`."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None]) for name in ("x", "y")]
    casts = [helper.make_node("Cast", [one], [other], to=to) for one, other, to in (("x", "a", 10), ("b", "y", 1))]
    for number, node in enumerate(nodes):
        node.name = f"{node.op_type}_{number}"
    held = [numpy_helper.from_array(value.astype(np.float16), name) for name, value in constants.items()]
    graph = helper.make_graph([casts[0], *nodes, casts[1]], "half", ends[:1], ends[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", graph_rules.OPSET)], ir_version=10)


def with_outliers(model: ClapModel, gain: float) -> None:
    """Multiply a channel behind each LayerNorm by `gain` and divide the weights that read it.

    In exact arithmetic the embeddings stay what they are. Trained transformers have such channels.
    """
    with torch.no_grad():
        encoder: Original = model.audio_model.audio_encoder
        for stage in encoder.layers:
            for number, block in enumerate(stage.blocks):
                attention = block.attention.self
                for norm, readers in (
                    (block.layernorm_before, (attention.query, attention.key, attention.value)),
                    (block.layernorm_after, (block.intermediate.dense,)),
                ):
                    norm.weight[number] *= gain
                    norm.bias[number] *= gain
                    for reader in readers:
                        reader.weight[:, number] /= gain


@pytest.fixture(scope="module")
def bundle_graph(bundle: Bundle) -> ModelProto:
    """Return the small tower in half precision."""
    return onnx.load(bundle.path(bundle.file("audio", "fp16")))


@pytest.fixture(scope="module")
def references(fused_model: ClapModel) -> dict[str, np.ndarray]:
    """Return transformers' embeddings of the extreme recordings."""
    with torch.inference_mode():
        return {
            name: fused_model.get_audio_features(torch.from_numpy(clip), torch.from_numpy(flag)).pooler_output.numpy()
            for name, (clip, flag) in extreme_clips(FrontEnd()).items()
        }


@pytest.fixture(scope="module", params=[20, 100, 1000], ids=lambda gain: f"outliers of {gain}")
def outlier_graph(request: pytest.FixtureRequest, make_model: Callable[..., ClapModel]) -> ModelProto:
    """Export a tower with outliers in half precision."""
    model = make_model()
    with_outliers(model, request.param)
    return graphs.export_audio(graphs.half_precision(AudioTower(model)), FrontEnd())


def check_range(graph: ModelProto, references: dict[str, np.ndarray]) -> None:
    """Hold a tower of half precision against its range, and against references of its embeddings."""
    tower = HalfArithmetic(graph)
    for name, (features, is_longer) in extreme_clips(FrontEnd()).items():
        run = tower.run({"input_features": features, "is_longer": is_longer})
        value, node = run.peak
        assert value <= LARGEST_HALF / MARGIN, (name, node)
        assert (run.embeddings * references[name]).sum() >= LEAST_COSINE, name


def test_no_half_value_comes_near_its_end_whatever_is_heard(
    bundle_graph: ModelProto, references: dict[str, np.ndarray]
) -> None:
    check_range(bundle_graph, references)


def test_outliers_as_trained_transformers_have_them_stay_in_range(
    outlier_graph: ModelProto, references: dict[str, np.ndarray]
) -> None:
    check_range(outlier_graph, references)


def test_every_node_of_half_precision_is_bounded(bundle_graph: ModelProto, mels: torch.Tensor) -> None:
    run = HalfArithmetic(bundle_graph).run({"input_features": mels[:1].numpy(), "is_longer": np.ones(1, np.bool_)})
    computing = [
        node for node in bundle_graph.graph.node if node.op_type in {"Gemm", "MatMul", "Add", "Softmax", "Gelu"}
    ]
    assert {node.name for node in computing if not node.name.startswith(("resize", "unit"))} <= run.largest.keys()
    assert all(0 < value < np.inf for name, value in run.largest.items() if "Cast" not in name)


def test_the_emulation_rounds_as_the_half_tower_of_pytorch(
    bundle_graph: ModelProto, fused_model: ClapModel, mels: torch.Tensor
) -> None:
    is_longer = torch.tensor([False, True])
    with torch.inference_mode():
        expected = graphs.half_precision(AudioTower(fused_model))(mels[:2], is_longer).numpy()
    emulated = HalfArithmetic(bundle_graph).run({"input_features": mels[:2].numpy(), "is_longer": is_longer.numpy()})
    assert 0 < np.abs(emulated.embeddings - expected).max() < 2e-3  # both round, in another order
    assert (emulated.embeddings * expected).sum(1).min() >= LEAST_COSINE


def test_no_graph_reduces_in_half_precision(bundle_graph: ModelProto) -> None:
    assert graph_rules.half_reductions(bundle_graph) == []
    nodes = [helper.make_node("ReduceMean", ["a"], ["b"], keepdims=1)]
    with pytest.raises(ModelError, match="ReduceMean of half precision"):
        graph_rules.check_graph(half_graph(nodes))


def test_half_precision_bakes_bias_and_masks_so_that_no_constants_are_added_at_every_run(
    bundle_graph: ModelProto,
) -> None:
    constants = {tensor.name for tensor in bundle_graph.graph.initializer}
    additions = [node for node in bundle_graph.graph.node if node.op_type == "Add"]
    assert not [node.name for node in additions if set(node.input) <= constants]


def test_what_overflows_between_two_nodes_is_not_a_number_at_the_end() -> None:
    root = half_graph([helper.make_node("Mul", ["a", "a"], ["c"]), helper.make_node("Sqrt", ["c"], ["b"])])
    run = HalfArithmetic(root).run({"x": np.array([[300, 200, -16, 0]], np.float32)})
    assert run.embeddings.tolist() == [[np.inf, 200, 16, 0]]  # the CPU provider alone gives 300
    assert run.peak == (90_000, "Mul_0")


def test_a_product_is_bounded_by_any_part_of_its_sums() -> None:
    product = half_graph([helper.make_node("MatMul", ["a", "w"], ["b"])], w=np.ones((4, 1)))
    run = HalfArithmetic(product).run({"x": np.array([[60_000, 10_000, -60_000, -10_000]], np.float32)})
    assert run.embeddings.tolist() == [[0]]
    assert run.peak == (140_000, "MatMul_0")


def test_every_result_is_rounded_as_numpy_rounds() -> None:
    sums = half_graph(
        [helper.make_node("Mul", ["a", "w"], ["c"]), helper.make_node("Add", ["c", "v"], ["b"])],
        w=np.full(4, 1 / 3),
        v=np.full(4, 0.7),
    )
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    expected = x.astype(np.float16) * np.float16(1 / 3) + np.float16(0.7)
    assert np.array_equal(HalfArithmetic(sums).run({"x": x}).embeddings, expected.astype(np.float32))


def test_a_checkpoint_whose_outliers_leave_no_margin_is_refused_and_nothing_is_left(
    tmp_path: Path, make_model: Callable[..., ClapModel], make_directory: Callable[..., Path]
) -> None:
    model = make_model()
    with torch.no_grad():  # in the residual stream, of which nothing can be folded away
        patches: Original = model.audio_model.audio_encoder.patch_embed
        patches.norm.weight[0] *= 1e4
    checkpoint = make_directory(tmp_path / "outliers", model)
    options = ExportOptions(precisions=("fp16",), text=False, short=False)
    with pytest.raises(ParityError, match=r"end of half precision.*norm.*; export it without fp16"):
        export_bundle(str(checkpoint), tmp_path / "out", options)
    assert [path.name for path in tmp_path.iterdir()] == ["outliers"]
