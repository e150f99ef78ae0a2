"""Synthesised sounds: functions of a seed, sane samples, kinds that differ."""

from itertools import combinations

import numpy as np
import pytest

from clapedge.features.log_mel import LogMel
from clapedge_demo import synth
from clapedge_demo.wordings import RECORDED, SYNTHESISED

ALL = (*synth.KINDS, *synth.IMITATIONS)
LEAST_KINDS = 15
APART_DB = 2.0
"""Kinds whose average spectra and their changes over time differ by less than this would be the same sound."""


def test_every_kind_has_its_words_and_every_word_its_kind() -> None:
    assert set(synth.KINDS) == set(SYNTHESISED)
    assert set(synth.IMITATIONS) == set(RECORDED)
    assert len(synth.KINDS) >= LEAST_KINDS


@pytest.mark.parametrize("kind", ALL)
def test_a_seed_gives_the_same_samples_again_and_another_seed_gives_others(kind: str) -> None:
    first, again, other = (synth.render(kind, seed, seconds=1.5) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("seconds", [0.8, 4.0])
def test_samples_are_finite_in_range_and_as_many_as_asked_for(kind: str, seconds: float) -> None:
    samples = synth.render(kind, 3, seconds=seconds)
    assert samples.dtype == np.float32
    assert samples.shape == (round(seconds * synth.RATE),)
    assert np.isfinite(samples).all()
    assert 0 < np.abs(samples).max() <= 1.0


def test_kinds_sound_different_from_one_another() -> None:
    fingerprints = {kind: fingerprint(kind) for kind in synth.KINDS}
    alike = [
        (one, other)
        for one, other in combinations(synth.KINDS, 2)
        if np.abs(fingerprints[one] - fingerprints[other]).mean() < APART_DB
    ]
    assert alike == []


def fingerprint(kind: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return mean and spread over time of each mel band, relative to the loudest, averaged over a few sounds."""
    sounds = [LogMel()(synth.render(kind, seed, seconds=3.0)) for seed in range(4)]
    rows = [np.concatenate([mel.mean(0) - mel.mean(0).max(), mel.std(0)]) for mel in sounds]
    return np.asarray(np.mean(rows, axis=0), np.float32)
