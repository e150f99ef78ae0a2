"""The graph for CUDA alone: what transformers computes, in the kernels that it is made of."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto
from transformers import ClapModel

from clapedge.errors import ModelError
from clapedge.features.front_end import FrontEnd
from clapedge.model.bundle import Bundle
from clapedge.model.towers import AudioTower as RunningAudioTower
from clapedge_export.audio_tower import AudioTower
from clapedge_export.cuda_graph import for_cuda
from clapedge_export.half_arithmetic import HalfArithmetic

LEAST_COSINE = 0.9999
FREE = frozenset({"Reshape"})
"""Operators that start no kernel."""
SHAPES: dict[str, dict[str, Any]] = {
    "htsat-base": {
        "depths": [2, 2, 12, 2],
        "num_attention_heads": [4, 8, 16, 32],
        "patch_embeds_hidden_size": 32,
        "hidden_size": 256,
    },
    "three stages": {"depths": [2, 2, 3], "num_attention_heads": [1, 2, 4], "hidden_size": 64},
    "window 16": {"window_size": 16, "depths": [2, 2, 2], "num_attention_heads": [1, 2, 4], "hidden_size": 64},
    "no biases, no patch norm": {"qkv_bias": False, "enable_patch_layer_norm": False, "mlp_ratio": 2.0},
    "large epsilon, relu": {"layer_norm_eps": 1e-2, "hidden_act": "relu"},
}


def cuda_graph(bundle: Bundle) -> ModelProto:
    return onnx.load(bundle.path(bundle.file("audio", "fp16", provider="cuda")))


def check(model: ClapModel, graph: ModelProto, mels: torch.Tensor, is_longer: torch.Tensor) -> None:
    """Hold a graph, computed with the rounding of half precision, against transformers."""
    with torch.inference_mode():
        expected = model.get_audio_features(input_features=mels, is_longer=is_longer).pooler_output.numpy()
    found = HalfArithmetic(graph).run({"input_features": mels.numpy(), "is_longer": is_longer.numpy()}).embeddings
    assert (found * expected).sum(1).min() >= LEAST_COSINE
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("flags", [[False], [True], [False, True, True, False]], ids=str)
def test_it_embeds_as_transformers_does(
    bundle: Bundle, fused_model: ClapModel, mels: torch.Tensor, flags: list[bool]
) -> None:
    check(fused_model, cuda_graph(bundle), mels[: len(flags)], torch.tensor(flags))


@pytest.mark.parametrize("shape", SHAPES)
def test_it_expresses_the_other_members_of_the_family(
    make_model: Callable[..., ClapModel], mels: torch.Tensor, shape: str
) -> None:
    model = make_model(audio=SHAPES[shape])
    check(model, for_cuda(AudioTower(model), FrontEnd()), mels[:2], torch.tensor([False, True]))


def test_a_model_without_fusion_takes_one_mel_and_no_flag(
    make_model: Callable[..., ClapModel], mels: torch.Tensor
) -> None:
    model = make_model(fusion=False)
    graph = for_cuda(AudioTower(model), FrontEnd(fusion=False, mel_scale="slaney"), batch=2)
    inputs = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in graph.graph.input}
    assert inputs == {"input_features": [2, 1, 1001, 64]}
    check(model, graph, mels[:3, :1].contiguous(), torch.zeros(3, dtype=torch.bool))


def test_crops_of_a_clip_that_is_not_longer_are_never_heard(bundle: Bundle, mels: torch.Tensor) -> None:
    tower = HalfArithmetic(cuda_graph(bundle))
    silent = mels[:1].clone()
    silent[:, 1:] = -100
    runs = [
        tower.run({"input_features": features.numpy(), "is_longer": np.array([longer])}).embeddings
        for longer in (False, True)
        for features in (mels[:1], silent)
    ]
    # the mean over both is heard until it is shut out: its rounding may not leave a trace
    assert np.array_equal(runs[0], runs[1])
    assert not np.allclose(runs[2], runs[3], atol=1e-3)


def test_a_block_is_nine_nodes_and_its_windows_shift_with_two_gathers(bundle: Bundle) -> None:
    nodes = [node for node in cuda_graph(bundle).graph.node if node.op_type not in FREE]
    blocks: dict[str, Counter[str]] = {}
    for node in nodes:
        stage = ".".join(node.name.partition("/")[0].split(".")[:2])
        blocks.setdefault(stage, Counter())[node.op_type] += 1
    attention = {name: census for name, census in blocks.items() if census["MultiHeadAttention"]}
    one = Counter(Gemm=1, Split=1, MultiHeadAttention=1, MatMul=3, SkipLayerNormalization=2, BiasGelu=1)
    shifted = one + Counter(Gather=2)
    assert sorted(attention.values(), key=Counter.total) == [one] * 5 + [shifted]
    assert not any(census["Transpose"] for census in attention.values())


def test_it_holds_operators_of_onnx_and_of_onnx_runtime_alone_and_copies_no_sizes_from_the_host(bundle: Bundle) -> None:
    graph = cuda_graph(bundle).graph
    own = {node.op_type for node in graph.node if node.domain}
    assert own == {"MultiHeadAttention", "SkipLayerNormalization", "BiasGelu"}
    assert not {"Slice", "Pad", "ReduceMean", "Shape", "Expand"} & {node.op_type for node in graph.node}
    assert all(not node.op_type.startswith("Reduce") for node in graph.node)
    assert all(len(node.output) == 3 for node in graph.node if node.op_type == "Split")  # parts of one size


def test_each_provider_gets_the_file_that_it_can_run(bundle: Bundle) -> None:
    paths = {name: bundle.file("audio", "fp16", provider=name).path for name in ("cuda", "tensorrt", "cpu")}
    assert paths == {"cuda": "audio.fp16.cuda.onnx", "tensorrt": "audio.fp16.onnx", "cpu": "audio.fp16.onnx"}
    assert bundle.file("audio", "fp16").path == "audio.fp16.onnx"
    assert bundle.file("audio", "fp32", provider="cuda").path == "audio.fp32.onnx"
    assert bundle.variants("audio") == ("fp32", "fp16", "int8")


def test_the_cpu_can_run_it_too_so_that_it_is_verified_as_a_file(
    bundle: Bundle, fused_model: ClapModel, mels: torch.Tensor
) -> None:
    with torch.inference_mode():
        expected = fused_model.get_audio_features(mels, torch.ones(4).bool()).pooler_output.numpy()
    file = bundle.file("audio", "fp16", provider="cuda")
    found = RunningAudioTower(bundle.path(file)).embed(mels.numpy(), np.ones(4, np.bool_))
    assert (found * expected).sum(1).min() >= LEAST_COSINE
    assert file.checks["min_cosine"] >= LEAST_COSINE


def test_an_activation_that_it_does_not_know_is_refused(make_model: Callable[..., ClapModel]) -> None:
    model = make_model(audio={"hidden_act": "silu"})
    with pytest.raises(ModelError, match=r"GELUActivation and ReLU, not the SiLU.*export it without fp16"):
        for_cuda(AudioTower(model), FrontEnd())
