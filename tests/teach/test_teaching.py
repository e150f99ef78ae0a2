"""Labels taught by clips: beside words, taught more, forgotten, and robust against what users give."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.teach.sounds import Recorder, Samples, render

from clapedge import AudioError, ClapEdgeWarning, EmbeddedLabels, Engine, LabelError, LabelSet, Lesson
from clapedge.labels.examples import Examples
from clapedge.labels.npz import read_arrays
from clapedge.teaching.advice import check_taught
from clapedge.teaching.prototypes import teach

WORDS = ["siren", "door knock", "rain", "dog barking"]


@pytest.fixture
def taught(engine: Engine, record: Recorder) -> EmbeddedLabels:
    """Return words with a label that three clips teach."""
    return engine.teach(Lesson("warble", [record("warble", take) for take in range(3)]), LabelSet.of(WORDS))


def top(engine: Engine, labels: EmbeddedLabels, path: Path) -> str:
    """Return the best label of a recording."""
    return engine.score(path, labels).top.name


def test_a_taught_sound_is_found_beside_words_and_words_keep_theirs(
    engine: Engine, record: Recorder, taught: EmbeddedLabels
) -> None:
    assert top(engine, taught, record("warble", 9)) == "warble"
    knock = Path(__file__).parents[2] / "engine/clapedge/demo_clips/door-knock.flac"
    before, after = engine.score(knock, LabelSet.of(WORDS)), engine.score(knock, taught)
    assert after.top.name == "door knock"
    same = {score.name: score.similarity for score in after.labels}
    assert all(score.similarity == same[score.name] for score in before.labels), "words keep their bits"


def test_similarities_of_taught_labels_stay_between_minus_one_and_one(engine: Engine, taught: EmbeddedLabels) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((500, taught.embeddings.shape[1])).astype(np.float32)
    examples = taught.examples
    assert examples is not None
    rows = np.concatenate([rows / np.linalg.norm(rows, axis=1, keepdims=True), examples.vectors(), -examples.vectors()])
    scores = engine.scorer(taught).similarities(rows)
    assert scores.dtype == np.float32
    assert np.abs(scores).max() <= 1


def test_a_file_holds_all_that_was_taught(
    engine: Engine, record: Recorder, taught: EmbeddedLabels, tmp_path: Path
) -> None:
    path = tmp_path / "sounds.npz"
    taught.save(path)
    again = EmbeddedLabels.load(path)
    clip = record("warble", 9)
    assert engine.score(clip, again).labels == engine.score(clip, taught).labels
    assert [label.examples for label in again.label_set.labels] == [0, 0, 0, 0, 3]


def test_teaching_is_exact_to_repeat_and_does_not_depend_on_the_order_of_lessons(
    engine: Engine, record: Recorder, tmp_path: Path
) -> None:
    lessons = [Lesson(kind, [record(kind, take) for take in range(2)]) for kind in ("warble", "clicks")]
    one = engine.teach(lessons[1], engine.teach(lessons[0], LabelSet.of(WORDS)))
    other = engine.teach(lessons[0], engine.teach(lessons[1], LabelSet.of(WORDS)))
    row = {label.name: at for at, label in enumerate(other.label_set.labels)}
    for at, label in enumerate(one.label_set.labels):
        np.testing.assert_array_equal(one.embeddings[at], other.embeddings[row[label.name]])
    one.save(tmp_path / "one.npz")
    engine.teach(lessons[1], engine.teach(lessons[0], LabelSet.of(WORDS))).save(tmp_path / "two.npz")
    first, second = read_arrays(tmp_path / "one.npz"), read_arrays(tmp_path / "two.npz")
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_a_label_is_taught_more_and_a_clip_is_forgotten(
    engine: Engine, record: Recorder, taught: EmbeddedLabels
) -> None:
    more = engine.teach(Lesson("warble", [record("warble", 5)]), taught)
    assert more.label_set.labels[-1].examples == 4
    less = engine.teacher.forget(more, "warble", clips=[str(record("warble", 5))])
    np.testing.assert_array_equal(less.embeddings, taught.embeddings)
    gone = engine.teacher.forget(less, "warble")
    assert [label.name for label in gone.label_set.labels] == WORDS
    np.testing.assert_array_equal(gone.embeddings, engine.embed_labels(WORDS).embeddings)
    assert gone.placement is None


def test_a_label_may_have_words_and_clips_and_keeps_its_words_when_the_clips_are_forgotten(
    engine: Engine, record: Recorder
) -> None:
    words = engine.embed_labels(WORDS)
    both = engine.teach(Lesson("siren", [record("warble", take) for take in range(3)]), words)
    again = engine.teach(Lesson("siren", [record("warble", 5)]), both)
    assert again.label_set.labels[0].prompts == words.label_set.labels[0].prompts
    assert again.label_set.labels[0].examples == 4
    forgotten = engine.teacher.forget(again, "siren")
    assert forgotten.label_set == words.label_set
    np.testing.assert_allclose(forgotten.embeddings, words.embeddings, atol=2e-3)  # words beside clips have 8 bits


def test_what_a_label_is_not_lowers_it_there_alone(engine: Engine, record: Recorder) -> None:
    clips, wrong = [record("warble", take) for take in range(3)], record("clicks", 1)
    plain = engine.teach(Lesson("warble", [*clips, record("clicks", 0)]), LabelSet.of(WORDS))
    warned = engine.teach(Lesson("warble", [*clips, record("clicks", 0)], [record("clicks", 2)]), LabelSet.of(WORDS))

    def similarity(labels: EmbeddedLabels, path: Path) -> float:
        return {score.name: score.similarity for score in engine.score(path, labels).labels}["warble"]

    assert similarity(warned, wrong) < similarity(plain, wrong) - 0.1
    assert similarity(warned, clips[0]) > 0.5


def test_a_label_set_may_be_of_taught_sounds_alone(engine: Engine, record: Recorder) -> None:
    labels = engine.teach(Lesson("warble", [record("warble", 0)]))
    labels = engine.teach(Lesson("clicks", [record("clicks", 0)]), labels)
    assert top(engine, labels, record("clicks", 5)) == "clicks"
    assert top(engine, labels, record("warble", 5)) == "warble"


def test_the_part_that_repeats_is_found_in_long_recordings(engine: Engine, record: Recorder) -> None:
    paths = []
    for take, (place, other) in enumerate(((3, "buzz"), (12, "clicks"), (7, "none"))):
        samples = render(other, take, 20.0)
        samples[place * 48_000 : (place + 4) * 48_000] = render("warble", take, 4.0)
        paths.append(record("long", take, samples=samples))
    labels = engine.teach(Lesson("gate", paths), LabelSet.of(WORDS))
    assert top(engine, labels, record("warble", 9)) == "gate"
    assert top(engine, labels, record("buzz", 9)) != "gate"


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [
        (np.zeros(96_000, np.float32), "bad.wav is silent"),
        (np.full(96_000, np.nan, np.float32), "-80 dBFS; 96000 samples are not finite numbers"),
        (np.float32(1e30) * render("warble", 1), "-80 dBFS; 1"),
        (render("warble", 1, 0.05), "bad.wav lasts 0.050 s"),
        (render("warble", 0), "bad.wav is the same sound as warble-0.wav"),
        (np.clip(20 * render("warble", 1), -1, 1), "bad.wav: it is clipped"),
        (np.float32(1e6) * render("warble", 1), "bad.wav: samples reach"),
        (np.where(np.arange(144_000) % 7 == 0, np.float32(np.inf), render("warble", 1)), "bad.wav: 20572 samples"),
    ],
    ids=["silent", "NaN", "beyond measure", "short", "duplicate", "clipped", "huge", "infinite"],
)
def test_a_doubtful_clip_is_named_and_what_is_left_teaches(
    engine: Engine, record: Recorder, samples: Samples, sentence: str
) -> None:
    good, bad = record("warble", 0), record("bad", samples=samples, name="bad.wav")
    with pytest.warns(ClapEdgeWarning) as warned:
        labels = engine.teach(Lesson("warble", [good, bad]), LabelSet.of(WORDS))
    messages = [str(one.message).replace(f"{good.parent}/", "") for one in warned]
    assert any(sentence in message for message in messages), messages
    assert np.isfinite(labels.embeddings).all()


def test_clips_that_teach_nothing_are_an_error(engine: Engine, record: Recorder, tmp_path: Path) -> None:
    with pytest.warns(ClapEdgeWarning, match="silent"), pytest.raises(AudioError, match="none of the clips"):
        engine.teach(Lesson("warble", [record("x", samples=np.zeros(96_000, np.float32))]))
    with pytest.warns(ClapEdgeWarning, match="no.wav"), pytest.raises(AudioError, match="none of the clips"):
        engine.teach(Lesson("warble", [tmp_path / "no.wav"]))
    with pytest.raises(LabelError, match="no clip teaches"):
        engine.teach(Lesson("warble", []))
    with pytest.raises(LabelError, match="has no name"):
        engine.teach(Lesson(" ", [record("warble")]))


def test_the_clip_of_another_sound_is_named(engine: Engine, record: Recorder) -> None:
    clips = [*(record("warble", take) for take in range(3)), record("buzz", 0)]
    labels = engine.teach(Lesson("warble", clips), LabelSet.of(WORDS))
    odd = [advice for advice in check_taught(labels) if advice.rule == "odd"]
    assert [str(clips[-1]) in advice.found for advice in odd] == [True]


def test_a_clip_that_was_given_in_an_earlier_lesson_under_another_name_is_named(
    engine: Engine, record: Recorder
) -> None:
    labels = engine.teach(Lesson("gate", [record("warble", take) for take in range(3)]), LabelSet.of(WORDS))
    copy = record("copy", samples=render("warble", 1))
    again = [one for one in check_taught(engine.teach(Lesson("gate", [copy]), labels)) if one.rule == "same"]
    assert [(str(copy) in one.found, "warble-1.wav" in one.found) for one in again] == [(True, True)]


def test_two_labels_of_one_sound_are_named(engine: Engine, record: Recorder) -> None:
    labels = engine.teach(Lesson("gate", [record("warble", take) for take in range(3)]), LabelSet.of(WORDS))
    assert check_taught(labels) == ()
    labels = engine.teach(Lesson("door", [record("warble", take) for take in range(3, 6)]), labels)
    assert any(advice.labels in {("gate", "door"), ("door", "gate")} for advice in check_taught(labels))


def test_what_is_not_known_cannot_be_forgotten(engine: Engine, taught: EmbeddedLabels) -> None:
    with pytest.raises(LabelError, match="taught nothing to 'siren'"):
        engine.teacher.forget(taught, "siren")
    with pytest.raises(LabelError, match=r"'other.wav' taught nothing to 'warble'"):
        engine.teacher.forget(taught, "warble", clips=["other.wav"])


def test_words_alone_do_not_make_a_taught_label(engine: Engine, taught: EmbeddedLabels) -> None:
    with pytest.raises(LabelError, match=r"taught by clips; use the .npz"):
        engine.embed_labels(taught.label_set)


def test_too_few_other_sounds_are_an_error(taught: EmbeddedLabels) -> None:
    assert taught.examples is not None
    with pytest.raises(LabelError, match="3 other sounds are known, and 32 are needed"):
        teach(None, taught.examples, np.eye(3, 256, dtype=np.float32), text_tower="")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("example_rows", np.zeros((3, 5), np.int8)),
        ("example_kinds", np.array([9] * 3, np.int8)),
        ("scales", np.array([np.inf] * 5, np.float32)),
        ("offsets", np.zeros(2, np.float32)),
    ],
)
def test_a_damaged_file_is_an_error(
    taught: EmbeddedLabels, tmp_path: Path, name: str, value: "np.ndarray[Any, Any]"
) -> None:
    path = tmp_path / "sounds.npz"
    taught.save(path)
    arrays: dict[str, Any] = {**read_arrays(path), name: value}
    np.savez(path, **arrays)
    with pytest.raises(LabelError, match="not a label set with embeddings"):
        EmbeddedLabels.load(path)


def test_eight_bits_keep_an_embedding() -> None:
    rows = np.random.default_rng(0).standard_normal((100, 512)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    kept = Examples.of(rows, label="x", kind="example", clips=[""] * 100).vectors()
    assert (kept * rows).sum(axis=1).min() > 0.9999


TWENTY_SOUNDS = """
import sys, time
import numpy as np
from clapedge.labels.examples import Examples
from clapedge.teaching.prototypes import teach

rng = np.random.default_rng(0)
rows = rng.standard_normal((228, 512)).astype(np.float32)
rows /= np.linalg.norm(rows, axis=1, keepdims=True)
examples = Examples(np.empty((0, 512), np.int8))
for number in range(20):
    clips = [f"recordings/sound-{number}-{clip}.wav" for clip in range(5)]
    examples += Examples.of(rows[5 * number : 5 * number + 5], label=f"sound {number}", kind="example", clips=clips)
spent = []
for _ in range(10):
    began = time.perf_counter()
    labels = teach(None, examples, rows[100:], text_tower="x")
    spent.append(time.perf_counter() - began)
labels.save(sys.argv[1])
print(min(spent))
"""
"""Run by itself: threads of BLAS, which wait busily for each other, would measure what else the machine does."""


def test_twenty_sounds_of_a_full_size_model_are_small_and_a_hundred_clips_are_quick(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TWENTY_SOUNDS, str(tmp_path / "twenty.npz")]
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
    assert float(done.stdout) < 0.05, "seconds to teach from 100 clips' embeddings"
    assert (tmp_path / "twenty.npz").stat().st_size <= 200_000


@pytest.mark.parametrize(("fits", "shared"), [(False, 0.0), (True, 0.8)], ids=["words of another sound", "its words"])
def test_words_count_as_far_as_they_fit_the_clips(*, fits: bool, shared: float) -> None:
    rng = np.random.default_rng(1)
    pool = unit(rng.standard_normal((64, 32)))
    clips = unit(np.eye(32)[:1] + 0.02 * rng.standard_normal((5, 32)))
    word = np.eye(32, dtype=np.float32)[0 if fits else 9][None]
    words = EmbeddedLabels(LabelSet.of(["gate"]), word, "x")
    examples = Examples.of(clips, label="gate", kind="example", clips=[f"{number}.wav" for number in range(5)])
    alone, both = (teach(labels, examples, pool, text_tower="x") for labels in (None, words))
    rows = [one.embeddings[0] * one.placement.scales[0] for one in (alone, both) if one.placement is not None]
    left = rows[1] - shared * word[0]
    angle = left @ rows[0] / np.linalg.norm(left) / np.linalg.norm(rows[0])
    assert angle == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(left) == pytest.approx((1 - shared) * np.linalg.norm(rows[0]), rel=1e-4)


def unit(rows: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> Samples:
    """Return rows of unit length."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
