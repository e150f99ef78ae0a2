"""A short run of the fuzzer, on recordings that need no other program to be made."""

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("resource", reason="the fuzzer limits memory as Unix does")
pytest.importorskip("av", reason="gaps are written by the extra: pip install 'clapedge[formats]'")
from tests.fuzz.fuzz_audio import fuzz, most_memory, mutant, with_checksums
from tests.fuzz.fuzz_loss import SIZES, Mutant, outcome
from tests.fuzz.fuzz_loss import mutant as mutant_with_loss
from tests.fuzz.fuzz_loss import seed as intact

KINDS = (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"))


def seed(kind: str, subtype: str) -> bytes:
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (16_000, 2))
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format=kind, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_damaged_recordings_give_samples_or_our_errors(kind: str, subtype: str) -> None:
    report = fuzz([seed(kind, subtype)], range(200), seed=0)
    assert report.findings == []
    assert report.outcomes["ok"] > 0
    assert report.outcomes["AudioFormatError"] > 0


def test_the_same_seed_gives_the_same_mutants() -> None:
    seeds = [seed("WAV", "PCM_16")]
    assert mutant(seeds, 1, 5) == mutant(seeds, 1, 5) != mutant(seeds, 1, 6)


def test_checksums_of_an_intact_recording_are_right_already() -> None:
    whole = seed("OGG", "VORBIS")
    assert with_checksums(bytearray(whole)) == whole


def test_the_memory_of_a_worker_is_not_that_of_the_process_that_started_it() -> None:
    ballast = np.ones(2**26, np.uint8)
    mine = most_memory()
    assert mine > len(ballast)
    program = "from tests.fuzz.fuzz_audio import most_memory; print(most_memory())"
    root = Path(__file__).parents[2]
    started = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, check=True, text=True)
    assert int(started.stdout) < mine - len(ballast) // 2


@pytest.mark.parametrize("kind", sorted(SIZES))
def test_nothing_is_lost_without_a_word(kind: str) -> None:
    made = [mutant_with_loss(kind, 0, number) for number in range(30)]
    assert [found for found in map(outcome, made) if found.startswith("LOST")] == []


def test_the_fuzzer_of_losses_finds_one() -> None:
    whole = Mutant(intact("WAV", 4.0), 4.0, 0.5)
    assert outcome(whole) == "right"
    assert outcome(replace(whole, seconds=5.0)).startswith("LOST: ")
