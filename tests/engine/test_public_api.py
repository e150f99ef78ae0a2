"""What `import clapedge` gives: the exported names, and the members of each."""

import asyncio
import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import clapedge
from clapedge import (
    AudioError,
    AudioFileNotFoundError,
    ClapEdgeError,
    ClapEdgeWarning,
    Engine,
    Event,
    EventRule,
    LabelSet,
    LiveEvent,
    Result,
    errors,
)

CLIPS = Path(clapedge.__file__).parent / "demo_clips"
WORDS = ["siren", "door knock", "rain", "vacuum cleaner"]
LABELS = LabelSet.of(WORDS)

MEMBERS = {
    "Bundle": "directory faults file files label_sets manifest open opened path read variants",
    "ClipOptions": "fusion hop length pad seed strips window",
    "Coverage": "duration end start to_dict",
    "DecidedScore": "name present probability similarity threshold",
    "Decision": "margin multi threshold unsure_margin",
    "EmbeddedLabels": "by_clips embed embeddings examples label_set load placement rejection save space temperature "
    "text_tower",
    "Engine": "audio_tower bundle check_variant clip_maker close count_tokens embed_audio embed_labels embed_many "
    "embed_stream embed_text frontend fusion has_embedded load made_with provenance provider_config result score "
    "score_many scorer shared_tower stored_labels stream strips_for teach teacher timeline timeline_of towers variant",
    "Event": "end label peak probability similarity start",
    "EventRule": "merge_gap min_duration multi off on thresholds",
    "Label": "examples hidden name prompts threshold",
    "LabelSet": "from_file labels of parse prompts",
    "Lesson": "clips name negatives others",
    "LiveEvent": "end kind label number peak probability similarity start",
    "Provenance": "frontend model provider space to_dict tower variant weights",
    "ReadOptions": "channel duration resample sample_rate start trim_silence",
    "Result": "coverage file fit from_dict labels provenance timing to_dict top unknown unsure warnings",
    "Score": "name probability similarity",
    "Timeline": "centres coverage edges events file from_windows labels probabilities provenance similarities "
    "thresholds warnings window",
}
"""The public members of each exported class that is not an error. A name that changes here breaks its users."""

ERRORS = {name for name, value in vars(errors).items() if inspect.isclass(value) and not name.startswith("_")}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Load the demo model."""
    with pytest.warns(ClapEdgeWarning, match="demo model"), Engine.load(threads=1) as engine:
        yield engine


def members(public: object) -> set[str]:
    """Return the public members of a class or of an object: methods, properties and fields."""
    fields = {field.name for field in dataclasses.fields(public)} if dataclasses.is_dataclass(public) else set()
    return fields | {name for name in dir(public) if not name.startswith("_")}


def test_the_exported_names_are_the_written_ones_and_every_error() -> None:
    assert set(clapedge.__all__) == {"__version__", *MEMBERS, *ERRORS}
    assert set(dir(clapedge)) == set(clapedge.__all__)
    for name in clapedge.__all__:
        assert getattr(clapedge, name) is not None


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_the_members_of_an_exported_class_are_the_written_ones(engine: Engine, name: str) -> None:
    whole = {"Engine": engine, "Bundle": engine.bundle}  # attributes that are set on creation
    assert members(whole.get(name, getattr(clapedge, name))) == set(MEMBERS[name].split())


def test_every_error_and_every_warning_is_of_one_family() -> None:
    for name in ERRORS:
        error = getattr(errors, name)
        assert issubclass(error, ClapEdgeWarning if issubclass(error, Warning) else ClapEdgeError)


def test_many_recordings_are_scored_in_order_and_a_bad_one_gives_its_error(engine: Engine) -> None:
    sources = [CLIPS / "siren.flac", CLIPS / "labels.toml", CLIPS / "none.wav", CLIPS / "door-knock.flac"]
    siren, damaged, missing, knock = engine.score_many(iter(sources), LABELS, workers=2)
    assert isinstance(siren, Result)
    assert isinstance(knock, Result)
    assert (siren.top.name, knock.top.name) == ("siren", "door knock")
    assert siren.labels == engine.score(sources[0], LABELS).labels
    assert isinstance(damaged, AudioError)
    assert isinstance(missing, AudioFileNotFoundError)
    assert "none.wav" in str(missing)


def test_recordings_are_embedded_from_a_generator_as_they_are_asked_for(engine: Engine) -> None:
    paths = sorted(CLIPS.glob("*.flac"))
    embeddings = engine.embed_audio(path for path in paths)
    assert embeddings.shape == (len(paths), engine.bundle.manifest.embedding_size)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(embeddings[2], engine.embed_audio([paths[2]])[0])


@pytest.mark.parametrize("clip", sorted(CLIPS.glob("*.flac")), ids=lambda path: path.stem)
def test_a_stream_of_blocks_ends_with_the_events_of_its_timeline(engine: Engine, clip: Path) -> None:
    samples, sample_rate = soundfile.read(clip, dtype="float32", always_2d=True)
    blocks = np.array_split(samples.T, np.arange(1000, len(samples), 7001), axis=1)
    rule = EventRule(on=0.4, off=0.2)
    updates = list(engine.stream(iter(blocks), LABELS, sample_rate=sample_rate, rule=rule, hop=0.5))
    ended = [update for update in updates if update.kind == "end"]
    timeline = engine.timeline((samples.T, sample_rate), LABELS, hop=0.5)
    assert sorted(map(plain, ended)) == sorted(map(plain, timeline.events(rule)))
    assert {update.number for update in updates if update.kind == "begin"} == {update.number for update in ended}


def plain(event: Event | LiveEvent) -> tuple[object, ...]:
    """Return what an event and the end of a live event have in common."""
    return event.start, event.end, event.label, event.peak, event.probability, event.similarity


def test_results_are_plain_values_and_show_what_they_found(engine: Engine) -> None:
    result = engine.score((np.zeros((2, 16_000), np.float32), 16_000), WORDS)
    record = result.to_dict(top_k=2)
    assert [label["name"] for label in record["labels"]] == [score.name for score in result.labels[:2]]
    assert Result.from_dict({**record, "labels": result.to_dict()["labels"]}) == result
    assert repr(result).startswith("<Result ")
    assert result.top.name in repr(result)


def test_an_event_loop_scores_in_a_thread(engine: Engine) -> None:
    async def both() -> list[Result]:
        scoring = (asyncio.to_thread(engine.score, CLIPS / name, LABELS) for name in ("siren.flac", "door-knock.flac"))
        return await asyncio.gather(*scoring)

    assert [result.top.name for result in asyncio.run(both())] == ["siren", "door knock"]
