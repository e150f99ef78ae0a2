"""The full size, with random weights: a minute of export, so only when it is asked for."""

import os
import resource
import sys
import time
from subprocess import run

import numpy as np
import pytest
import torch

from clapedge.model.bundle import Bundle
from clapedge.model.towers import AudioTower
from clapedge_export.synthetic import make_checkpoint

pytestmark = pytest.mark.skipif(
    not os.environ.get("CLAPEDGE_FULL_SIZE"), reason="exports 150 million weights; run it with CLAPEDGE_FULL_SIZE=1"
)

NAME = "random:clap-htsat-fused"
MOST_SECONDS = 300
MOST_BYTES = 8 << 30


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Export the full size in a process of its own, within its limits of time and memory."""
    out = tmp_path_factory.mktemp("full") / "bundle"
    began = time.perf_counter()
    ended = run([sys.executable, "-m", "clapedge.cli", "export", NAME, "-o", str(out)], check=True, capture_output=True)
    assert b"The weights are random" in ended.stderr
    assert time.perf_counter() - began < MOST_SECONDS
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < MOST_BYTES  # Linux counts in kB
    return Bundle.open(out)


@pytest.mark.parametrize("flags", [[False], [True], [False, True, True], [False, False, False]], ids=str)
def test_the_full_size_embeds_as_transformers_does(exported: Bundle, mels: torch.Tensor, flags: list[bool]) -> None:
    model, is_longer = make_checkpoint(NAME).model, torch.tensor(flags)
    features = mels[: len(flags)]
    with torch.inference_mode():
        expected = model.get_audio_features(input_features=features, is_longer=is_longer).pooler_output
    found = AudioTower(exported.path(exported.file("audio", "fp32"))).embed(features.numpy(), is_longer.numpy())
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-6, rtol=0)


def test_a_bundle_of_random_weights_says_so(exported: Bundle) -> None:
    assert exported.manifest.weights == "random"
    assert exported.faults() == []
