"""Outliers of trained weights: folded away where that is exact, refused with the remedy where they remain."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from transformers import ClapModel

from clapedge.errors import ParityError
from clapedge.features.front_end import FrontEnd
from clapedge.model.towers import AudioTower as RunningTower
from clapedge_export import ExportOptions, export_bundle, graphs
from clapedge_export.audio_tower import AudioTower
from clapedge_export.cuda_graph import for_cuda
from clapedge_export.half_arithmetic import HalfArithmetic
from clapedge_export.int8 import dynamic_int8
from clapedge_export.outliers import fold_norm, fold_opposed, fold_pair
from clapedge_export.text_tower import TextTower
from clapedge_export.verify import AudioCases, audio_cases

if TYPE_CHECKING:
    from clapedge_export.layers import Original

LEAST_INT8, LEAST_HALF = 0.999, 0.9999
"""Cosines with transformers that outliers may not take a variant below."""


@torch.no_grad()
def with_outliers(model: ClapModel, gain: float, *, share: float = 0.02, seed: int = 0) -> ClapModel:
    """Multiply channels wherever the layers behind them can take it back exactly, and return the model.

    Behind every norm of the audio tower, of both signs, between values and output of every attention, q and k, and
    within both projections.
    """
    generator = torch.Generator().manual_seed(seed)

    def swap(makers: list["Original"], readers: list["Original"]) -> None:
        width = len(makers[0].bias)
        channels = torch.randperm(width, generator=generator)[: max(1, round(width * share))]
        for maker in makers:
            maker.weight[channels] *= gain
            maker.bias[channels] *= gain
        for reader in readers:
            reader.weight[:, channels] /= gain

    def attention(layer: "Original", out: "Original") -> None:
        swap([layer.value], [out])
        layer.query.weight[0], layer.query.bias[0] = layer.query.weight[0] * gain, layer.query.bias[0] * gain
        layer.key.weight[0], layer.key.bias[0] = layer.key.weight[0] / gain, layer.key.bias[0] / gain

    encoder: Original = model.audio_model.audio_encoder
    for stage in encoder.layers:
        for block in stage.blocks:
            inner = block.attention.self
            swap([block.layernorm_before], [inner.query, inner.key, inner.value])
            swap([block.layernorm_after], [block.intermediate.dense])
            attention(inner, block.attention.output.dense)
        if stage.downsample is not None:
            swap([stage.downsample.norm], [stage.downsample.reduction])
    text: Original = model.text_model
    for layer in text.encoder.layer:
        attention(layer.attention.self, layer.attention.output.dense)
    audio_projection: Original = model.audio_projection
    swap([encoder.norm], [audio_projection.linear1])
    for projection in (audio_projection, model.text_projection):
        swap([projection.linear1], [projection.linear2])
    return model


@pytest.fixture(scope="module")
def cases(fused_model: ClapModel) -> AudioCases:
    """Return inputs and what the model without outliers makes of them."""
    return audio_cases(fused_model, FrontEnd())


@pytest.fixture(scope="module", params=[20, 100, 1000], ids=lambda gain: f"gain {gain}")
def tower(request: pytest.FixtureRequest, make_model: Callable[..., ClapModel]) -> AudioTower:
    """Rebuild the audio tower of the small model with outliers."""
    return AudioTower(with_outliers(make_model(), request.param, seed=request.param))


def least_cosine(found: np.ndarray, expected: np.ndarray) -> float:
    return float((found * expected).sum(1).min())


def test_int8_does_not_feel_outliers(tower: AudioTower, cases: AudioCases, tmp_path: Path) -> None:
    graphs.save(dynamic_int8(graphs.export_audio(tower, FrontEnd(), batch=1)), tmp_path / "int8.onnx")
    found = RunningTower(tmp_path / "int8.onnx").embed(cases.features, cases.is_longer)
    assert least_cosine(found, cases.expected) >= LEAST_INT8


@pytest.mark.parametrize("cuda", [False, True], ids=["every provider", "CUDA"])
def test_half_precision_does_not_feel_outliers(tower: AudioTower, cases: AudioCases, cuda: bool) -> None:  # noqa: FBT001 - a parameter of the test
    front_end = FrontEnd()
    graph = for_cuda(tower, front_end) if cuda else graphs.export_audio(graphs.half_precision(tower), front_end)
    run = HalfArithmetic(graph).run({"input_features": cases.features, "is_longer": cases.is_longer})
    assert least_cosine(run.embeddings, cases.expected) >= LEAST_HALF


@torch.inference_mode()
def test_float32_embeds_what_it_did_to_the_last_bit_for_outliers_of_powers_of_two(
    make_model: Callable[..., ClapModel], fused_model: ClapModel, mels: torch.Tensor
) -> None:
    is_longer, model = torch.tensor([False, True]), with_outliers(make_model(), 2.0**9)
    plain, spiky = (AudioTower(each)(mels[:2], is_longer) for each in (fused_model, model))
    torch.testing.assert_close(spiky, plain, rtol=0, atol=0)
    ids = torch.arange(4, 24)[None]
    plain, spiky = (TextTower(each)(ids, torch.ones_like(ids)) for each in (fused_model, model))
    torch.testing.assert_close(spiky, plain, rtol=0, atol=0)


def test_the_checkpoint_itself_stays_as_it_is(make_model: Callable[..., ClapModel]) -> None:
    model = with_outliers(make_model(), 100)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    AudioTower(model)
    TextTower(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@torch.inference_mode()
def test_layers_compute_the_same_with_channels_alike() -> None:
    torch.manual_seed(0)
    norm, reader, query, key = torch.nn.LayerNorm(32), *(torch.nn.Linear(32, 32) for _ in range(3))
    norm.weight[5] *= 300
    norm.bias[7] += 1000
    norm.weight[9] = 0  # a silent channel
    reader.weight[:, 11] = 0  # one that nothing reads
    rows = torch.randn(64, 32)
    folded, (reading,) = fold_norm(norm, [reader])
    assert torch.equal(reading(folded(rows)), reader(norm(rows)))
    assert folded(rows).abs().max() < norm(rows).abs().max() / 10
    relu, gelu = torch.nn.ReLU(), torch.nn.GELU()
    first, second = fold_pair(query, reader, activation=relu)
    torch.testing.assert_close(second(relu(first(rows))), reader(relu(query(rows))))
    assert fold_pair(query, reader, activation=gelu) == (query, reader)
    one, other = fold_opposed(query, key)
    torch.testing.assert_close(
        one(rows) @ other(rows).T - one(rows) @ other.bias[:, None],
        query(rows) @ key(rows).T - query(rows) @ key.bias[:, None],
    )


def test_what_cannot_be_folded_is_refused_with_the_command_that_helps(
    tmp_path: Path, make_model: Callable[..., ClapModel], make_directory: Callable[..., Path]
) -> None:
    model = make_model()
    with torch.no_grad():  # behind Gelu, which no factor passes
        encoder: Original = model.audio_model.audio_encoder
        for stage in encoder.layers:
            for block in stage.blocks:
                block.intermediate.dense.bias[0] += 3000
                block.output.dense.weight[:, 0] /= 3000
    checkpoint = make_directory(tmp_path / "outliers", model)
    with pytest.raises(
        ParityError, match=r"least cosine 0\.\d+ \(at least 0\.995\).*clapedge calibrate BUNDLE --audio DIR"
    ):
        export_bundle(str(checkpoint), tmp_path / "out", ExportOptions(precisions=("int8",), text=False, short=False))
    assert [path.name for path in tmp_path.iterdir()] == ["outliers"]
