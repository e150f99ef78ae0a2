"""The engine on the demo model: one answer for one sound, whatever stands beside it."""

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from clapedge import EmbeddedLabels, Engine, LabelSet
from clapedge.engine import MANY
from clapedge.errors import AudioFileNotFoundError, BundleError, ClapEdgeWarning, LabelError, UsageError
from clapedge.labels.encoder import LABEL_SETS_KEPT
from clapedge.model.towers import AudioTower

if TYPE_CHECKING:
    from clapedge.audio import AudioSource

RATE = 48_000
LABELS = ["rain", "siren", "dog barking"]


def sound(seconds: float, seed: int = 0) -> npt.NDArray[np.float32]:
    """Make noise."""
    return np.random.default_rng(seed).normal(0, 0.1, int(RATE * seconds)).astype(np.float32)


@pytest.fixture(scope="module", params=["fp32", "int8"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Open the demo model in each precision."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClapEdgeWarning)
        with Engine.load(precision=request.param) as opened:
            yield opened


def test_an_embedding_does_not_depend_on_what_is_embedded_beside_it(engine: Engine) -> None:
    sounds = [sound(3, 1), sound(10, 2), sound(0.1, 3)]
    together = engine.embed_audio(sounds)
    apart = np.concatenate([engine.embed_audio([one]) for one in sounds])
    np.testing.assert_array_equal(together, apart)
    np.testing.assert_array_equal(together, engine.embed_audio(sounds))


def test_many_recordings_side_by_side_embed_as_each_alone(engine: Engine) -> None:
    sounds = [sound(0.5 + seed % 3, seed) for seed in range(MANY)]
    apart = np.concatenate([engine.embed_audio([one]) for one in sounds])
    np.testing.assert_array_equal(engine.embed_audio(sounds), apart)


def test_a_bad_recording_among_many_is_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(AudioFileNotFoundError, match=r"none\.wav"):
        engine.embed_audio([*[sound(0.5)] * MANY, tmp_path / "none.wav"])


def test_nothing_to_embed_gives_no_rows(engine: Engine) -> None:
    assert engine.embed_audio([]).shape == (0, engine.bundle.manifest.embedding_size)


def test_a_prompts_embedding_does_not_depend_on_its_neighbours(engine: Engine) -> None:
    prompts = ["rain", "a dog barks in the distance", "rain on a tin roof", "the siren of a passing ambulance"]
    together = engine.embed_text(prompts)
    apart = np.concatenate([engine.embed_text([prompt]) for prompt in prompts])
    np.testing.assert_allclose(together, apart, atol=1e-6)


def test_embeddings_have_unit_norm(engine: Engine) -> None:
    rows = np.concatenate([engine.embed_audio([sound(1), sound(10)]), engine.embed_text(["rain"])])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)


def test_a_path_bytes_a_file_object_and_samples_score_alike(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, sound(2), RATE, subtype="FLOAT")
    with path.open("rb") as stream:
        sources: list[AudioSource] = [path, str(path), path.read_bytes(), stream, sound(2)]
        scores = [engine.score(source, LABELS).labels for source in sources]
    assert all(other == scores[0] for other in scores)


def test_a_span_scores_like_the_same_samples_alone(engine: Engine) -> None:
    whole = sound(30)
    part = engine.score(whole, LABELS, start=12, duration=3)
    assert part.labels == engine.score(whole[12 * RATE : 15 * RATE], LABELS).labels
    assert (part.coverage.start, part.coverage.end, part.coverage.duration) == (12.0, 15.0, 30.0)


def test_a_long_recording_is_heard_in_part_or_whole(engine: Engine) -> None:
    whole = sound(25)
    first, slide, fuse = (engine.score(whole, LABELS, window=window) for window in ("first", "slide", "fuse"))
    assert (first.coverage.end, slide.coverage.end, fuse.coverage.end) == (10.0, 25.0, 25.0)
    assert [bool(result.warnings) for result in (first, slide, fuse)] == [True, False, False]
    assert len({result.labels for result in (first, slide, fuse)}) == 3


def test_threads_may_share_an_engine(engine: Engine) -> None:
    sounds = [sound(2, seed) for seed in range(8)]
    expected = [engine.score(one, LABELS).labels for one in sounds]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: engine.score(one, LABELS).labels, sounds))
    assert found == expected


def test_scoring_changes_no_array_of_the_caller(engine: Engine) -> None:
    samples = sound(1)
    samples[10] = np.nan
    copy = samples.copy()
    result = engine.score(samples, LABELS)
    np.testing.assert_array_equal(samples, copy)
    assert any("not finite" in sentence for sentence in result.warnings)
    assert np.isfinite([score.similarity for score in result.labels]).all()


def test_labels_of_another_model_are_refused(engine: Engine) -> None:
    foreign = EmbeddedLabels(LabelSet.of(["rain"]), np.ones((1, 512), np.float32), "another tower")
    with pytest.raises(LabelError, match="embedded by another model"):
        engine.score(sound(1), foreign)


def test_a_stored_set_that_is_not_there_is_named_with_those_that_are(engine: Engine) -> None:
    with pytest.raises(BundleError, match="no label set 'kitchen'"):
        engine.stored_labels("kitchen")


def test_what_cannot_be_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'last' is none of"):
        engine.score(sound(1), LABELS, window="last")  # type: ignore[arg-type]
    with pytest.raises(AudioFileNotFoundError, match="does not exist"):
        engine.score(tmp_path / "none.wav", LABELS)
    with pytest.raises(LabelError, match="no labels"):
        engine.score(sound(1), [])


def test_the_engine_says_what_its_weights_are() -> None:
    with pytest.warns(ClapEdgeWarning, match="demo model"):
        Engine.load().close()


@pytest.mark.parametrize("lone", ["a.wav", b"RIFF", Path("a.wav")])
def test_one_recording_or_prompt_in_place_of_several_is_refused(engine: Engine, lone: Any) -> None:  # noqa: ANN401
    with pytest.raises(UsageError, match="expected a list of recordings"):
        engine.embed_audio(lone)
    with pytest.raises(UsageError, match="expected a list of prompts"):
        engine.embed_text("rain")


def test_no_prompts_give_no_rows(engine: Engine) -> None:
    assert engine.embed_text([]).shape == engine.embed_audio([]).shape


def test_a_prompt_that_is_cut_is_said(engine: Engine) -> None:
    with pytest.warns(ClapEdgeWarning, match="tokens of the prompt"):
        engine.embed_text(["rain " * 600])


def test_always_fusing_changes_what_a_short_clip_is() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClapEdgeWarning)
        plain, fused = Engine.load(), Engine.load(fusion="always")
    with plain, fused:
        assert (plain.embed_audio([sound(2)]) != fused.embed_audio([sound(2)])).any()


def test_a_long_recording_that_nobody_waits_for_is_left(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    clips: list[int] = []
    embed = AudioTower.embed

    def counted(tower: AudioTower, features: npt.NDArray[np.float32], is_longer: npt.NDArray[np.bool_]) -> object:
        clips.append(len(features))
        return embed(tower, features, is_longer)

    monkeypatch.setattr(AudioTower, "embed", counted)
    beginning = engine.embed_many([sound(0.5), sound(60)], workers=2, window="slide", hop=0.1)
    next(iter(beginning))
    beginning.close()  # it is a generator
    assert sum(clips) < 250, "all of it are 501 clips"


def opened() -> Engine:
    """Open the demo model for one test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClapEdgeWarning)
        return Engine.load(threads=1, spinning=False)


@pytest.mark.parametrize("labels", [[1, 2], [None], ["rain", b"wind"], 5])
def test_labels_that_are_no_words_are_an_error_of_labels(labels: Any) -> None:  # noqa: ANN401 - whatever a caller gives
    with opened() as engine, pytest.raises(LabelError, match="give"):
        engine.embed_labels(labels)


def test_an_engine_that_is_closed_says_so() -> None:
    engine = opened()
    engine.close()
    for use in (
        lambda: engine.score(sound(1), ["rain", "wind"]),
        lambda: engine.embed_audio([sound(1)]),
        lambda: engine.embed_text(["rain"]),
    ):
        with pytest.raises(UsageError, match="is closed; load it again"):
            use()


def test_an_engine_keeps_the_embeddings_of_a_bounded_number_of_label_sets() -> None:
    with opened() as engine:
        first = LabelSet.of(["rain", "wind"])
        engine.embed_labels(first)
        for number in range(LABEL_SETS_KEPT - 1):
            engine.embed_labels([f"label {number}", "rain"])
        assert engine.has_embedded(first)
        engine.embed_labels(["one", "more"])
        assert not engine.has_embedded(first)
