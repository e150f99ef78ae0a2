"""Recordings to clips: windows, padding, shared frames, and blocks in place of the whole."""

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clapedge import audio
from clapedge.arrays import Float32Array
from clapedge.audio import ReadOptions
from clapedge.errors import UsageError
from clapedge.features.clips import ClipMaker, ClipOptions, Clips, Window
from clapedge.features.front_end import FrontEnd
from clapedge.features.fusion import crop_starts
from clapedge.features.padding import Pad, pad_samples

RATE = 48_000
CLIP = 480_000
FUSED = ClipMaker(FrontEnd())
UNFUSED = ClipMaker(FrontEnd(mel_scale="slaney", fusion=False))
SOUND = (0.1 * np.random.default_rng(0).standard_normal(45 * RATE)).astype(np.float32)
"""45 s of noise; tests take its beginning."""

WINDOWS: tuple[Window, ...] = ("first", "slide", "fuse")
PADS: tuple[Pad, ...] = ("repeatpad", "repeat", "zero")
LENGTHS = st.one_of(
    st.integers(1, 45 * RATE),
    st.sampled_from([1, 479, 480, CLIP - 1, CLIP, CLIP + 1, CLIP + 479, CLIP + 480, CLIP + 481, 2 * CLIP, 3 * CLIP]),
)
HOPS = st.one_of(st.sampled_from([0.5, 1.0, 2.5, 5.0, 10.0, 12.0]), st.floats(0.3, 30.0))


def same(first: Clips, second: Clips) -> bool:
    """Tell whether clips are the same, bit by bit."""
    return (
        np.array_equal(first.features, second.features)
        and np.array_equal(first.is_longer, second.is_longer)
        and first.spans == second.spans
    )


def clip_starts(samples: int, length: int, hop: int) -> list[int]:
    """Return where sliding clips begin: every `hop` while they fit, and a last one that ends with the recording."""
    if samples <= length:
        return [0]
    starts = list(range(0, samples - length + 1, hop))
    return starts if starts[-1] + length == samples else [*starts, samples - length]


def in_blocks(samples: Float32Array, sizes: list[int]) -> list[Float32Array]:
    """Cut samples into blocks, whose sizes repeat."""
    blocks: list[Float32Array] = []
    at = 0
    while at < len(samples):
        size = sizes[len(blocks) % len(sizes)]
        blocks.append(samples[at : at + size])
        at += size
    return blocks


def joined(parts: list[Clips]) -> Clips:
    return Clips(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.is_longer for part in parts]),
        tuple(span for part in parts for span in part.spans),
    )


@settings(deadline=None, max_examples=60)
@given(length=LENGTHS, window=st.sampled_from(WINDOWS), pad=st.sampled_from(PADS), hop=HOPS, fused=st.booleans())
def test_clips_have_the_shape_that_the_tower_reads_and_are_the_same_each_time(
    length: int, window: Window, pad: Pad, hop: float, *, fused: bool
) -> None:
    if window == "fuse" and not fused:
        return
    maker = FUSED if fused else UNFUSED
    options = ClipOptions(window=window, pad=pad, hop=hop)
    clips = maker(SOUND[:length], options)
    count = len(clip_starts(length, CLIP, round(hop * RATE))) if window == "slide" else 1
    assert clips.features.shape == (count, 4 if fused else 1, 1001, 64)
    assert clips.features.dtype == np.float32
    assert np.isfinite(clips.features).all()
    assert clips.is_longer.tolist() == [window == "fuse" and length >= CLIP + 480] * count
    assert len(clips.spans) == count
    assert same(clips, maker(SOUND[:length], options))


@settings(deadline=None, max_examples=60)
@given(
    length=LENGTHS,
    window=st.sampled_from(WINDOWS),
    hop=HOPS,
    sizes=st.lists(st.integers(400, 700_000), min_size=1, max_size=4),
    known=st.sampled_from(["known", "unknown", "wrong"]),
)
def test_blocks_give_the_clips_of_the_whole(
    length: int, window: Window, hop: float, sizes: list[int], known: str
) -> None:
    samples = SOUND[:length]
    options = ClipOptions(window=window, hop=hop)
    promised = {"known": length, "unknown": None, "wrong": length // 2 + 3}[known]
    parts = list(FUSED.stream(in_blocks(samples, sizes), options, samples=promised, batch=2))
    assert all(len(part.spans) <= 2 for part in parts)
    assert same(joined(parts), FUSED(samples, options))


@settings(deadline=None, max_examples=30)
@given(length=st.integers(CLIP, 30 * RATE), hop=HOPS)
def test_a_sliding_clip_is_that_of_its_samples_alone(length: int, hop: float) -> None:
    samples = SOUND[:length]
    clips = FUSED(samples, ClipOptions(window="slide", hop=hop))
    for index, start in enumerate(clip_starts(length, CLIP, round(hop * RATE))):
        alone = FUSED(samples[start : start + CLIP])
        np.testing.assert_array_equal(clips.features[index], alone.features[0])
        assert clips.spans[index] == (start / RATE, (start + CLIP) / RATE)


@settings(deadline=None)
@given(frames=st.integers(1001, 10**6), seed=st.none() | st.integers(0, 2**32 - 1))
def test_each_crop_lies_in_its_third(frames: int, seed: int | None) -> None:
    front, middle, back = crop_starts(frames, 1001, seed=seed)
    assert 0 <= front <= frames - 1001
    assert middle <= frames - 1001
    assert back <= frames - 1001
    if frames >= 1003:
        assert front < middle < back
    assert (front, middle, back) == crop_starts(frames, 1001, seed=seed)


@pytest.mark.parametrize("pad", PADS)
@pytest.mark.parametrize("length", [1, 7, 160_000, 240_000, 240_001, CLIP - 1, CLIP, CLIP + 1])
def test_padding_keeps_the_sound_and_fills_the_clip(length: int, pad: Pad) -> None:
    samples = SOUND[:length]
    padded = pad_samples(samples, CLIP, pad)
    assert len(padded) == max(length, CLIP)
    copies = {"zero": 1, "repeatpad": max(1, CLIP // length), "repeat": -(-CLIP // length)}[pad]
    expected = np.zeros(max(length, CLIP, copies * length), np.float32)
    expected[: copies * length] = np.tile(samples, copies)
    np.testing.assert_array_equal(padded, expected[: len(padded)])


def test_a_seed_draws_other_crops_and_only_in_fuse() -> None:
    centred, drawn = (FUSED(SOUND, ClipOptions(window="fuse", seed=seed)) for seed in (None, 3))
    assert not np.array_equal(centred.features, drawn.features)
    assert same(drawn, FUSED(SOUND, ClipOptions(window="fuse", seed=3)))
    np.testing.assert_array_equal(centred.features[0, 0], drawn.features[0, 0])


@pytest.mark.parametrize(
    "options",
    [
        {"window": "last"},
        {"pad": "mirror"},
        {"fusion": "never"},
        {"hop": 0},
        {"hop": float("nan")},
        {"hop": float("inf")},
        {"seed": -1},
        {"seed": 2**32},
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"choose|give"):
        ClipOptions(**options)  # type: ignore[arg-type]


def test_fusion_is_refused_where_the_model_has_none() -> None:
    for options in (ClipOptions(window="fuse"), ClipOptions(fusion="always")):
        with pytest.raises(UsageError, match="no fusion"):
            UNFUSED(SOUND[:RATE], options)


@pytest.mark.parametrize("window", ["slide", "fuse"])
def test_memory_does_not_grow_with_the_recording(window: Window) -> None:
    def minutes(count: int) -> Iterator[Float32Array]:
        for _ in range(count * 6):
            yield SOUND[:CLIP]

    peaks = []
    for count in (2, 12):
        tracemalloc.start()
        for _ in FUSED.stream(minutes(count), ClipOptions(window=window), samples=count * 6 * CLIP):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] < 40e6


def test_a_stream_of_a_file_gives_the_clips_of_its_samples() -> None:
    array = SOUND[: 25 * RATE].reshape(1, -1).repeat(2, axis=0)
    options = ClipOptions(window="slide", hop=2.0)
    with audio.opened(array, ReadOptions(sample_rate=44_100)) as stream:
        parts = list(FUSED.stream(stream, options, samples=stream.samples))
    assert same(joined(parts), FUSED(audio.read(array, ReadOptions(sample_rate=44_100)).samples, options))


@settings(deadline=None, max_examples=60)
@given(
    samples=st.one_of(st.integers(1, 12 * RATE), st.sampled_from([4800, 9600, 2 * RATE, 3 * RATE + 1])),
    length=st.one_of(st.sampled_from([0.1, 0.5, 1.0, 2.0, 3.0, 3.3, 5.0, 9.99, 10.0]), st.floats(0.1, 10.0)),
    hop=st.sampled_from([0.25, 0.5, 1.0, 0.333, 4.0]),
    pad=st.sampled_from(PADS),
)
def test_short_sliding_clips_are_padded_as_recordings_of_their_length(
    samples: int, length: float, hop: float, pad: Pad
) -> None:
    clips = FUSED(SOUND[:samples], ClipOptions(window="slide", length=length, hop=hop, pad=pad))
    starts = clip_starts(samples, round(length * RATE), round(hop * RATE))
    assert [round(start * RATE) for start, _ in clips.spans] == starts
    for index in {0, len(starts) // 2, len(starts) - 1}:
        alone = SOUND[starts[index] : min(samples, starts[index] + round(length * RATE))]
        np.testing.assert_array_equal(clips.features[index], FUSED(alone, ClipOptions(pad=pad)).features[0])
        assert clips.spans[index][1] == (starts[index] + len(alone)) / RATE


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"window": "slide", "length": 0.05}, "at least 0.1 s"),
        ({"window": "slide", "length": float("nan")}, "at least 0.1 s"),
        ({"window": "first", "length": 2.0}, "only with sliding clips"),
        ({"window": "slide", "length": 10.5}, "10 s long at most"),
    ],
)
def test_a_length_that_no_clip_can_have_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        FUSED(SOUND[:RATE], ClipOptions(**options))
