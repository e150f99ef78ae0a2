"""Seeded crops of fused recordings against those that the extractor of transformers draws."""

from typing import Any

import numpy as np
import pytest
from transformers import ClapFeatureExtractor

from clapedge.features.clips import ClipMaker, ClipOptions
from clapedge.features.front_end import FrontEnd

TOLERANCE = 1e-4
"""dB; see `test_mel_reference`. A crop one frame away is off by tens of dB."""

REFERENCE: Any = ClapFeatureExtractor(frequency_min=50, frequency_max=14_000, padding="repeatpad", truncation="fusion")


@pytest.mark.parametrize("length", [480_480, 480_960, 481_920, 600_000, 1_440_000])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_a_seed_draws_the_crops_that_the_reference_draws(length: int, seed: int) -> None:
    samples = (0.1 * np.random.default_rng(length).standard_normal(length)).astype(np.float32)
    np.random.seed(seed)  # noqa: NPY002 - the generator that transformers draws from
    expected = REFERENCE(samples, sampling_rate=48_000, return_tensors="np")["input_features"][0]
    found = ClipMaker(FrontEnd())(samples, ClipOptions(window="fuse", seed=seed)).features[0]
    assert np.abs(found - expected).max() <= TOLERANCE
