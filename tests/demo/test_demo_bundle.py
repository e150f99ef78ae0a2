"""The shipped demo model: it names the demo clips, unseen synthesised sounds and real recordings."""

import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

import clapedge
from clapedge import Engine, LabelSet
from clapedge.model.bundle import Bundle, Variant, demo_directory
from clapedge_demo import captions, gauging, synth
from clapedge_demo.gauging import TestSet
from clapedge_demo.model import NOTES

CLIPS = Path(clapedge.__file__).parent / "demo_clips"
VARIANTS: tuple[Variant, ...] = ("fp32", "int8")
LARGEST_BUNDLE, LARGEST_CLIPS = 20_000_000, 1_000_000
"""Bytes of package data that a small wheel can carry."""
LEAST_SYNTHESISED, LEAST_RECORDED = 0.9, 0.85


@pytest.fixture(params=VARIANTS)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Open the shipped model in one precision."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it is a demo
        opened = Engine.load(demo_directory(), provider="cpu", precision=request.param)
    with opened:
        yield opened


@lru_cache
def unseen_sounds() -> TestSet:
    """Render two sounds of every kind, of seeds that no training used."""
    return gauging.synthesised_tests(2)


def test_the_bundle_is_whole_small_and_says_what_it_is() -> None:
    bundle = Bundle.open(demo_directory())
    assert bundle.faults() == []
    assert bundle.manifest.weights == "demo"
    assert bundle.manifest.notes == NOTES
    assert set(VARIANTS) <= set(bundle.variants("audio"))
    assert sum(path.stat().st_size for path in demo_directory().rglob("*") if path.is_file()) <= LARGEST_BUNDLE


def test_every_demo_clip_has_the_right_label_first(engine: Engine) -> None:
    labels = LabelSet.from_file(CLIPS / "labels.toml")
    clips = sorted(CLIPS.glob("*.flac"))
    assert len(clips) >= 5
    assert sum(clip.stat().st_size for clip in clips) <= LARGEST_CLIPS
    found = {clip.stem.replace("-", " "): engine.score(clip, labels) for clip in clips}
    assert {name: result.top.name for name, result in found.items()} == {name: name for name in found}
    assert not any(result.unsure for result in found.values())


def test_unseen_synthesised_sounds_are_named_in_wordings_that_training_never_saw(engine: Engine) -> None:
    sounds = unseen_sounds()
    heard = engine.embed_audio(sounds.short, sample_rate=synth.RATE)
    template = [captions.PLAIN[0].format(kind) for kind in sounds.kinds]
    wordings = [captions.held_out(kind)[0] for kind in sounds.kinds]
    assert gauging.accuracy(engine, heard, template, sounds.truth) >= LEAST_SYNTHESISED
    assert gauging.accuracy(engine, heard, wordings, sounds.truth) >= LEAST_SYNTHESISED


def test_unseen_synthesised_sounds_are_named_when_they_are_long_enough_to_be_fused() -> None:
    sounds = unseen_sounds()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = Engine.load(demo_directory(), provider="cpu")
    with opened:
        heard = opened.embed_audio(sounds.long, sample_rate=synth.RATE, window="fuse")
        template = [captions.PLAIN[0].format(kind) for kind in sounds.kinds]
        assert gauging.accuracy(opened, heard, template, sounds.truth) >= LEAST_SYNTHESISED


@pytest.mark.filterwarnings("ignore:.*it is clipped")  # as some of the recordings are
def test_most_of_the_recordings_that_were_held_out_are_named(engine: Engine, esc10: Path) -> None:
    sounds = gauging.recorded_tests(esc10, 4)
    heard = engine.embed_audio(sounds.short, sample_rate=synth.RATE)
    prompts = [captions.PLAIN[0].format(kind) for kind in sounds.kinds]
    assert gauging.accuracy(engine, heard, prompts, sounds.truth) >= LEAST_RECORDED
