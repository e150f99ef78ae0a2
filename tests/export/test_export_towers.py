"""The rebuilt towers against transformers' own model, in PyTorch, before any graph is made.

Tolerance 1e-6: embeddings have unit norm, and float32 sums of some hundred terms differ by about 1e-7.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from transformers import ClapModel

from clapedge.errors import ModelError
from clapedge_export.audio_patches import cubic_taps
from clapedge_export.audio_tower import AudioTower, Reorder
from clapedge_export.graphs import half_precision
from clapedge_export.text_tower import TextTower
from clapedge_export.token_order import MASKED, Windows, merge_order, raster, short_strips

TOLERANCE = 1e-6
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
FLAGS = {
    "short": [False],
    "long": [True],
    "short and long": [False, True, True],
    "all short": [False, False, False],
    "all long": [True, True, True],
}


def audio_reference(model: ClapModel, mels: torch.Tensor, is_longer: torch.Tensor) -> torch.Tensor:
    """Let transformers embed."""
    with torch.inference_mode():
        embeddings: torch.Tensor = model.get_audio_features(input_features=mels, is_longer=is_longer).pooler_output
    return embeddings


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_the_fused_tower_embeds_as_transformers_does(
    fused_model: ClapModel, mels: torch.Tensor, flags: list[bool]
) -> None:
    features, is_longer = mels[: len(flags)], torch.tensor(flags)
    with torch.inference_mode():
        found = AudioTower(fused_model)(features, is_longer)
    torch.testing.assert_close(found, audio_reference(fused_model, features, is_longer), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_configuration_alone_makes_other_members_of_the_family(
    make_model: Callable[..., ClapModel], mels: torch.Tensor, shape: str
) -> None:
    model, is_longer = make_model(audio=SHAPES[shape]), torch.tensor([False, True])
    with torch.inference_mode():
        found = AudioTower(model)(mels[:2], is_longer)
    torch.testing.assert_close(found, audio_reference(model, mels[:2], is_longer), atol=TOLERANCE, rtol=0)


def test_fusion_changes_embeddings_so_that_the_flag_is_really_heard(fused_model: ClapModel, mels: torch.Tensor) -> None:
    tower = AudioTower(fused_model)
    with torch.inference_mode():
        apart = (tower(mels, torch.ones(4).bool()) - tower(mels, torch.zeros(4).bool())).abs().max()
    assert apart > 100 * TOLERANCE


@pytest.mark.parametrize(("shape", "batch"), [("small", 1), ("small", 3), ("htsat-base", 1)])
def test_the_unfused_tower_embeds_as_transformers_does(
    make_model: Callable[..., ClapModel], mels: torch.Tensor, shape: str, batch: int
) -> None:
    model = make_model(fusion=False, audio=SHAPES.get(shape))
    features = mels[:batch, :1]
    with torch.inference_mode():
        found = AudioTower(model)(features)
    expected = audio_reference(model, features, torch.zeros(batch).bool())
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("change", [{"patch_size": 6}, {"fusion_type": "channel_map"}, {"window_size": 12}], ids=str)
def test_an_architecture_that_the_tower_cannot_express_is_refused(
    make_model: Callable[..., ClapModel], change: dict[str, Any]
) -> None:
    model = make_model()
    for name, value in change.items():
        setattr(model.audio_model.audio_encoder.config, name, value)
    with pytest.raises(ModelError, match="audio_config"):
        AudioTower(model)


@pytest.mark.parametrize(("frames", "resized"), [(1001, 1024), (1000, 1024), (501, 512), (3, 7)])
def test_the_taps_are_those_of_the_bicubic_interpolation_of_pytorch(frames: int, resized: int) -> None:
    taps, weights = cubic_taps(frames, resized)
    dense = torch.zeros(resized, frames).scatter_add_(1, taps.T, weights.T)
    identity = torch.eye(frames)[None, :, :, None]
    expected = functional.interpolate(identity, (resized, 1), mode="bicubic", align_corners=True)[0, :, :, 0].T
    torch.testing.assert_close(dense, expected, atol=1e-6, rtol=0)


@given(st.sampled_from([8, 16, 32, 64]), st.sampled_from([4, 8]), st.sampled_from([0, 2]), st.sampled_from([1, 2, 4]))
def test_orders_hold_every_token_once_and_a_reordering_leads_from_one_to_another(
    columns: int, side: int, parts: int, strips: int
) -> None:
    rows = columns * strips // 4
    windows = Windows(rows, columns, side, side // parts if parts else 0)
    order, merged = windows.places_first(), merge_order(raster(rows // 2, columns // 2), columns)
    for one in (order, windows.order(), merged):
        assert torch.equal(one.sort().values, raster(rows, columns))
    assert torch.equal(order.reshape(windows.tokens, -1).T, windows.order().reshape(-1, windows.tokens))
    tokens = order[:, None, None]
    assert torch.equal(Reorder(order, merged)(tokens)[:, 0, 0], merged)


def test_the_mask_parts_only_windows_that_the_shift_has_joined() -> None:
    mask = Windows(32, 32, 8, 4).masks()
    inner = [row * 4 + column for row in range(3) for column in range(3)]
    assert mask.shape == (16, 64, 64)
    assert not mask[inner].any()
    assert all((mask[window] < 0).any() for window in range(16) if window not in inner)


def test_a_seam_is_cut_for_the_first_of_the_copies_and_by_a_mask_in_the_whole_image() -> None:
    whole, one, two = (Windows(rows, 64, 8, 4) for rows in (64, 16, 32))
    table = torch.zeros(64, 64, 2)
    assert (whole.cut, one.cut, two.cut) == (1, 0.25, 0.5)
    assert whole.near(table) is None
    assert whole.masks().min() == one.masks().min() == MASKED
    near = one.near(table)
    assert near is not None
    assert near.shape == (2, 1, 64, 64)
    assert near[0].eq(1).all()
    assert near[1].eq(0).any(), "the last row of windows holds the seam"


def test_a_key_stands_for_its_copies() -> None:
    windows, table = Windows(2, 8, 8, 0), torch.randn(64, 64, 3)
    bias = windows.bias(table)
    assert (windows.copies, bias.shape) == (4, (3, 16, 16))
    copied = table.permute(2, 0, 1).reshape(3, 4, 16, 4, 16)[:, 2]
    torch.testing.assert_close(bias.exp(), copied.exp().sum(dim=2))


@pytest.mark.parametrize(
    ("architecture", "expected"), [((64, 4, 8), (1, 2)), ((64, 6, 8), (2,)), ((64, 4, 16), (1, 2)), ((16, 4, 8), (2,))]
)
def test_short_towers_are_made_where_strips_fill_the_windows_of_every_stage(
    architecture: tuple[int, int, int], expected: tuple[int, ...]
) -> None:
    assert short_strips(*architecture) == expected


PROMPTS = {
    "one": [[0, 40, 50, 2]],
    "padded": [[0, 40, 50, 60, 70, 80, 2], [0, 40, 2, 1, 1, 1, 1], [0, 9, 8, 7, 2, 1, 1]],
    "a padding token that is no padding": [[0, 40, 1, 50, 2]],
    "longest": [[0, *range(10, 46), 2]],
}


@pytest.mark.parametrize("ids", PROMPTS.values(), ids=PROMPTS)
def test_the_text_tower_embeds_as_transformers_does(fused_model: ClapModel, ids: list[list[int]]) -> None:
    tokens = torch.tensor(ids)
    mask = torch.ones_like(tokens) if len(ids) == 1 else tokens.ne(1).long()
    with torch.inference_mode():
        found = TextTower(fused_model)(tokens, mask)
        expected = fused_model.get_text_features(tokens, mask).pooler_output
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def test_half_precision_leaves_the_tower_and_the_checkpoint_as_they_are(fused_model: ClapModel) -> None:
    tower = AudioTower(fused_model)
    half = half_precision(tower)
    assert half.norm.weight.dtype == torch.float16
    assert half.resize.gain.dtype == torch.float32
    assert {parameter.dtype for parameter in (*tower.parameters(), *fused_model.parameters())} == {torch.float32}
