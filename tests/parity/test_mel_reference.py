"""The front end against the extractor of transformers: log-mels, clips and fused inputs, within 1e-4 dB."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import ClapFeatureExtractor

from clapedge import audio
from clapedge.arrays import Float32Array
from clapedge.features.clips import ClipMaker, ClipOptions
from clapedge.features.front_end import FrontEnd
from clapedge.features.log_mel import LogMel, mel_bank
from clapedge.features.padding import Pad

TOLERANCE = 1e-4
"""dB, over everything: digital silence, bands that a codec removed, 140 dB below the loudest."""

LENGTHS = (1, 479, 480, 479_999, 480_000, 480_001, 480_479, 480_480, 720_000, 1_440_000)
"""Samples: around a hop, around a clip, around the first frame more than a clip has, 15 s and 30 s."""

FUSED = FrontEnd()
UNFUSED = FrontEnd(mel_scale="slaney", fusion=False)

# `preprocessor_config.json` of laion's checkpoints, fused and unfused ones alike but for `truncation`
REFERENCE: Any = ClapFeatureExtractor(frequency_min=50, frequency_max=14_000, padding="repeatpad", truncation="fusion")


def street(length: int) -> Float32Array:
    """Return samples as recordings have them: hum, tones, hiss, knocks, a codec's low-pass, digital silence."""
    rng = np.random.default_rng(length)
    seconds = np.arange(length) / 48_000
    hiss = np.fft.rfft(rng.standard_normal(length))
    hertz = np.fft.rfftfreq(length, 1 / 48_000)
    samples = np.fft.irfft(hiss * (hertz < 11_000) / (20 + hertz), length)
    samples += 0.3 * np.sin(2 * np.pi * 50 * seconds) + 0.05 * np.sin(2 * np.pi * (800 + 300 * seconds) * seconds)
    samples += np.exp(-200 * (seconds % 0.7)) * np.sin(2 * np.pi * 2_300 * seconds)
    samples[(seconds % 4) > 3.2] = 0
    return (0.4 * samples / max(1.0, float(np.abs(samples).max()))).astype(np.float32)


@pytest.fixture(autouse=True)
def centred_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reference draw what clapedge takes: the centre of each third, and the beginning."""
    monkeypatch.setattr(np.random, "choice", lambda positions: positions[len(positions) // 2])
    monkeypatch.setattr(np.random, "randint", lambda low, _high: low)


def reference_features(samples: Float32Array, pad: Pad, truncation: str) -> Float32Array:
    """Return the reference's features of one recording, (1 or 4, 1001, 64)."""
    padding = {"zero": "pad"}.get(pad, pad)
    made = REFERENCE(samples, sampling_rate=48_000, padding=padding, truncation=truncation, return_tensors="np")
    features: Float32Array = made["input_features"][0]
    return features


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_the_mel_banks_are_those_of_the_reference(scale: str) -> None:
    expected = REFERENCE.mel_filters if scale == "htk" else REFERENCE.mel_filters_slaney
    assert np.array_equal(mel_bank(48_000, 1024, 64, 50.0, 14_000.0, scale), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("pad", ["repeatpad", "repeat", "zero"])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_fused_model_hears_what_the_reference_gives_it(length: int, pad: Pad) -> None:
    samples = street(length)
    clips = ClipMaker(FUSED)(samples, ClipOptions(window="fuse", pad=pad))
    expected = reference_features(samples, pad, "fusion")
    assert clips.features.shape == (1, 4, 1001, 64)
    assert clips.is_longer.tolist() == [length >= 480_480]
    assert np.abs(clips.features[0] - expected).max() <= TOLERANCE


@pytest.mark.parametrize("pad", ["repeatpad", "repeat", "zero"])
@pytest.mark.parametrize("length", LENGTHS)
def test_an_unfused_model_hears_what_the_reference_gives_it(length: int, pad: Pad) -> None:
    samples = street(length)
    clips = ClipMaker(UNFUSED)(samples, ClipOptions(window="first", pad=pad))
    assert clips.features.shape == (1, 1, 1001, 64)
    assert np.abs(clips.features[0] - reference_features(samples, pad, "rand_trunc")).max() <= TOLERANCE


@pytest.mark.parametrize("gain", [1.0, 1e-3])
def test_real_recordings_have_the_log_mels_of_the_reference(esc10: Path, gain: float) -> None:
    paths = sorted(esc10.rglob("*.ogg"))[::8]
    assert paths, f"no recordings (*.ogg) below {esc10}"
    for path in paths:
        samples = audio.read(path).samples * np.float32(gain)
        for transform, bank in (
            (LogMel(), REFERENCE.mel_filters),
            (LogMel(mel_scale="slaney"), REFERENCE.mel_filters_slaney),
        ):
            expected = REFERENCE._np_extract_fbank_features(samples, bank)
            assert np.abs(transform(samples) - expected).max() <= TOLERANCE, path.name
