"""A published checkpoint, from the hub to scores: its real configuration and tokenizer, with random weights.

The weights of laion/clap-htsat-fused are no part of any test: random ones of the same names take their place, in layers
that are fewer and narrower (`CLAPEDGE_FULL_SIZE=1` adds those of its real size).
"""

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.hub import Hub
from transformers import ClapConfig, ClapModel, pipeline

from clapedge import Engine
from clapedge.errors import ClapEdgeWarning
from clapedge_export import ExportOptions, export_bundle
from clapedge_export.quiet import quiet
from clapedge_export.synthetic import randomize

NAME = "laion/clap-htsat-fused"
RATE = 48_000

LABELS = {
    "english": ["dog barking", "rain", "a siren far away, then nothing", "knocking"],
    "chinese": ["狗叫声", "下雨", "远处的警报声", "敲门声"],
    "cyrillic": ["лай собаки", "дождь", "сирена вдалеке", "стук в дверь"],
    "mixed": ["dog barking", "狗叫声", "лай собаки", "🐕 bark — naïve"],
}

TOLERANCE = 1e-6
"""Of a probability: float32 on both sides. Measured on small models were at most 1.7e-7."""

SMALLER: dict[str, dict[str, Any]] = {
    "audio_config": {
        "depths": [2, 1, 1, 2],
        "num_attention_heads": [1, 2, 4, 8],
        "patch_embeds_hidden_size": 16,
        "hidden_size": 128,
    },
    "text_config": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 96},
}


@dataclass(frozen=True)
class Sides:
    """The engine with the bundle, and transformers with the files of the hub."""

    engine: Engine
    reference: Any


def write_checkpoint(published: Path, directory: Path, *, weights: str, smaller: bool) -> Path:
    """Copy a published repository and put random weights beside it, as the published ones lie there."""
    directory.mkdir()
    for file in published.iterdir():
        shutil.copyfile(file, directory / file.name)
    config = json.loads((directory / "config.json").read_text())
    for part, entries in SMALLER.items() if smaller else ():
        config[part] |= entries
    (directory / "config.json").write_text(json.dumps(config))
    with quiet():
        model = ClapModel(ClapConfig.from_dict(config))
        randomize(model, seed=0)
        if weights == "model.safetensors":
            model.save_pretrained(directory / "saved")
            (directory / "saved" / weights).rename(directory / weights)
            shutil.rmtree(directory / "saved")
            return directory
    positions = torch.arange(model.text_model.config.max_position_embeddings)[None]
    # a tensor that models of today compute, and files of 2023 hold
    torch.save({**model.state_dict(), "text_model.embeddings.position_ids": positions}, directory / weights)
    return directory


FULL_SIZE = pytest.mark.skipif(
    not os.environ.get("CLAPEDGE_FULL_SIZE"), reason="exports 150 million weights; run it with CLAPEDGE_FULL_SIZE=1"
)


@pytest.fixture(
    scope="module",
    params=[
        ("pytorch_model.bin", True),
        ("model.safetensors", True),
        pytest.param(("pytorch_model.bin", False), marks=FULL_SIZE),
    ],
    ids=["bin", "safetensors", "full size"],
)
def sides(request: pytest.FixtureRequest, published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    """Export a checkpoint from the hub, and open it with transformers."""
    weights, smaller = request.param
    folder = tmp_path_factory.mktemp("published")
    source = write_checkpoint(published, folder / "repository", weights=weights, smaller=smaller)
    with pytest.MonkeyPatch.context() as patch, Hub() as hub:
        hub.use(patch, folder / "cache")
        commit = hub.add(NAME, source)
        bundle = export_bundle(NAME, folder / "bundle", ExportOptions())
    assert (bundle.manifest.model, bundle.manifest.revision) == (NAME, commit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClapEdgeWarning)
        engine = Engine.load(bundle.directory, precision="fp32", fusion="always")
    with quiet():
        reference = pipeline("zero-shot-audio-classification", model=str(source))
    yield Sides(engine, reference)
    engine.close()


def sound() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return four seconds of a chirp in noise."""
    seconds = np.arange(4 * RATE) / RATE
    noise = np.random.default_rng(0).normal(size=len(seconds))
    return (0.3 * np.sin(2 * np.pi * (200 + 300 * seconds) * seconds) + 0.02 * noise).astype(np.float32)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_scores_are_those_of_the_pipeline_in_any_script(sides: Sides, labels: list[str]) -> None:
    expected = {entry["label"]: entry["score"] for entry in sides.reference(sound(), candidate_labels=labels)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClapEdgeWarning)
        scored = sides.engine.score(sound(), labels).labels
    found = {score.name: score.probability for score in scored}
    assert found == pytest.approx(expected, abs=TOLERANCE)
