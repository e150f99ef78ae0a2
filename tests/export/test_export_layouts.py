"""The published layouts of CLAP, in depth and heads as published: a quarter as wide, unless full size is asked for."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ClapModel

from clapedge.model.towers import AudioTower
from clapedge_export import export_bundle

FULL_SIZE = bool(os.environ.get("CLAPEDGE_FULL_SIZE"))

LAYOUTS = [
    # config.json of laion/clap-htsat-fused and laion/clap-htsat-unfused; other tests export fewer of its blocks
    pytest.param(
        {"patch_embeds_hidden_size": 96, "depths": [2, 2, 6, 2]},
        id="htsat-tiny",
        marks=pytest.mark.skipif(not FULL_SIZE, reason="takes minutes; run it with CLAPEDGE_FULL_SIZE=1"),
    ),
    # HTSAT-base of LAION-AI/CLAP: laion/larger_clap_general, larger_clap_music and larger_clap_music_and_speech
    pytest.param({"patch_embeds_hidden_size": 128, "depths": [2, 2, 12, 2]}, id="htsat-base"),
]

HEADS = [4, 8, 16, 32]
"""Attention heads by stage, of both."""

NARROWER = 1 if FULL_SIZE else 4


@pytest.mark.parametrize("fusion", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_published_layout_exports_and_equals_transformers(
    tmp_path: Path,
    make_model: Callable[..., ClapModel],
    make_directory: Callable[..., Path],
    mels: torch.Tensor,
    layout: dict[str, Any],
    *,
    fusion: bool,
) -> None:
    width = layout["patch_embeds_hidden_size"] // NARROWER
    shape = {**layout, "patch_embeds_hidden_size": width, "hidden_size": 8 * width, "num_attention_heads": HEADS}
    model = make_model(fusion=fusion, audio=shape)
    bundle = export_bundle(str(make_directory(tmp_path / "model", model)), tmp_path / "bundle")
    features, is_longer = mels[:3] if fusion else mels[:3, :1], torch.tensor([False, fusion, False])
    with torch.inference_mode():
        expected = model.get_audio_features(input_features=features, is_longer=is_longer).pooler_output
    found = AudioTower(bundle.path(bundle.file("audio", "fp32"))).embed(features.numpy(), is_longer.numpy())
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-6, rtol=0)  # the exporter's own tolerance
