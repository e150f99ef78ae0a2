"""The whole engine, from samples to scores, against transformers on the demo checkpoint (and the full size when asked).

`CLAPEDGE_FULL_SIZE=1` repeats it with the random full-size model, which takes a few minutes.
"""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tokenizers import Tokenizer
from transformers import ClapFeatureExtractor, ClapModel, PreTrainedTokenizerFast, pipeline

from clapedge import Engine
from clapedge.errors import ClapEdgeWarning
from clapedge.model.bundle import demo_directory
from clapedge_export.export import export_bundle
from clapedge_export.load import load_checkpoint

Samples = npt.NDArray[np.float32]

CHECKPOINT = Path(__file__).parents[2] / "demo" / "checkpoint"
RATE = 48_000
LABELS = ["dog barking", "rain", "siren", "knocking"]

EMBEDDING_TOLERANCE = 1e-5
"""The graph's 2e-6, and what 1e-5 dB of the log-mels come to behind it."""

PROBABILITY_TOLERANCE = 1e-4
"""A logit is a similarity times at most 100, so 1e-5 there is at most 1e-3 of a logit and a quarter of that here."""


@dataclass(frozen=True)
class Sides:
    """The same model on both sides."""

    engine: Engine
    always: Engine
    model: ClapModel
    extractor: Any
    tokenizer: Any


@pytest.fixture(
    scope="module",
    params=[
        "demo",
        pytest.param(
            "random:clap-htsat-fused",
            marks=pytest.mark.skipif(
                not os.environ.get("CLAPEDGE_FULL_SIZE"), reason="full size takes minutes; set CLAPEDGE_FULL_SIZE=1"
            ),
        ),
    ],
)
def sides(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    """Open the bundle in FP32 and the checkpoint that it was made of."""
    if request.param == "demo":
        checkpoint, bundle = load_checkpoint(str(CHECKPOINT)), demo_directory()
    else:
        checkpoint = load_checkpoint(request.param)
        bundle = tmp_path_factory.mktemp("bundle") / "random"
        export_bundle(request.param, bundle)
    front = checkpoint.front_end
    extractor = ClapFeatureExtractor(
        frequency_min=front.f_min, frequency_max=front.f_max, truncation="fusion", padding="repeatpad"
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(checkpoint.tokenizer.decode()),
        pad_token="<pad>",  # noqa: S106 - no password
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClapEdgeWarning)
        engine = Engine.load(bundle, precision="fp32")
        always = Engine.load(bundle, precision="fp32", fusion="always")
    with engine, always:
        yield Sides(engine, always, checkpoint.model, extractor, tokenizer)


def sound(seconds: float, seed: int) -> Samples:
    """Make a tone that sweeps, in noise."""
    time = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(0, 0.02, len(time))
    return np.asarray(0.3 * np.sin(2 * np.pi * (200 + 40 * seed) * time * (1 + 0.1 * time)) + noise, np.float32)


@torch.inference_mode()
def reference(sides: Sides, sounds: list[Samples], is_longer: list[bool], seed: int = 0) -> Samples:
    """Let transformers embed a batch, with its flags set as given."""
    np.random.seed(seed)  # noqa: NPY002 - the generator that transformers draws crops from
    inputs = sides.extractor(sounds, sampling_rate=RATE, return_tensors="pt")
    flags = torch.tensor(is_longer)[:, None]
    rows = sides.model.get_audio_features(input_features=inputs["input_features"], is_longer=flags).pooler_output
    return np.asarray(torch.nn.functional.normalize(rows, dim=-1))


@pytest.mark.parametrize("seconds", [[3.0], [10.0], [0.3, 5.0, 10.0]], ids=str)
def test_short_recordings_embed_as_the_reference_without_fusion(sides: Sides, seconds: list[float]) -> None:
    sounds = [sound(length, seed) for seed, length in enumerate(seconds)]
    expected = reference(sides, sounds, [False] * len(sounds))
    assert np.abs(sides.engine.embed_audio(sounds) - expected).max() <= EMBEDDING_TOLERANCE


@pytest.mark.parametrize("seconds", [[3.0], [0.3, 5.0, 10.0]], ids=str)
def test_always_fusing_embeds_a_short_recording_as_the_reference_does_alone(sides: Sides, seconds: list[float]) -> None:
    sounds = [sound(length, seed) for seed, length in enumerate(seconds)]
    expected = reference(sides, sounds, [True] * len(sounds))
    assert np.abs(sides.always.embed_audio(sounds) - expected).max() <= EMBEDDING_TOLERANCE


@pytest.mark.parametrize("seconds", [[25.0], [2.0, 25.0, 10.0]], ids=str)
def test_long_recordings_fuse_as_the_reference_does_with_the_same_seed(sides: Sides, seconds: list[float]) -> None:
    sounds = [sound(length, seed) for seed, length in enumerate(seconds)]
    flags = [length > 10.0 for length in seconds]
    expected = reference(sides, sounds, flags, seed=7)
    found = sides.engine.embed_audio(sounds, window="fuse", seed=7)
    assert np.abs(found - expected).max() <= EMBEDDING_TOLERANCE


def test_scores_are_those_of_the_zero_shot_pipeline(sides: Sides) -> None:
    scorer = pipeline(
        "zero-shot-audio-classification",
        model=sides.model,
        feature_extractor=sides.extractor,
        tokenizer=sides.tokenizer,
    )
    recording = sound(4.0, 3)
    expected = {entry["label"]: entry["score"] for entry in scorer(recording, candidate_labels=LABELS)}
    found = {score.name: score.probability for score in sides.always.score(recording, LABELS).labels}
    assert found == pytest.approx(expected, abs=PROBABILITY_TOLERANCE)
