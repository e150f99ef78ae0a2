"""Listening: a recording to the embeddings of its clips, read and embedded a few clips at a time."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Protocol, TypeAlias, TypedDict

import numpy as np

from clapedge import audio
from clapedge.arrays import BoolArray, Float32Array
from clapedge.audio import AudioSource, Resample
from clapedge.errors import AudioError, AudioSpanError
from clapedge.features.clips import ClipMaker, ClipOptions, Window
from clapedge.features.fusion import Fusion
from clapedge.features.padding import Pad
from clapedge.scoring.result import Coverage, RecordingEmbeddings, unheard

AHEAD = 4
"""Recordings that wait or are listened to for each worker, so that none idles while a long one is at the head."""

ROUNDING_SECONDS = 0.001
"""A limit is not exceeded by less: spans are rounded to samples."""

Told: TypeAlias = Callable[[float, float], None]
"""Is told after each step up to which second a recording was heard, and where it ends."""


class Embedder(Protocol):
    """What embeds clips: an `AudioTower`, or what stands in front of one."""

    def embed(self, features: Float32Array, is_longer: BoolArray) -> Float32Array:
        """Embed clips, see `AudioTower.embed`."""
        ...


class Hearing(TypedDict, total=False):
    """How a recording is heard: keyword arguments of `Engine.score` and `Engine.embed_audio`, each with a default.

    Attributes:
        rate: Hz of samples (default 48000); files carry their own.
        start: where to begin, in seconds.
        duration: seconds to hear at most; None hears all.
        channel: the channel to hear, counted from 0; None hears the mean of all.
        trim_silence: dBFS; leading and trailing silence below it is left out, None leaves nothing out.
        resample: quality of the resampler, `VHQ` unless said otherwise.
        window: `first`, `slide` or `fuse`, see `ClipOptions`.
        pad: how a short recording fills a clip, see `ClipOptions`.
        hop: seconds from one sliding clip to the next.
        length: seconds that each sliding clip hears; None means all that a clip can.
        seed: of random crops in `fuse`; None takes the centre of each third.
    """

    rate: int | None
    start: float
    duration: float | None
    channel: int | None
    trim_silence: float | None
    resample: Resample
    window: Window
    pad: Pad
    hop: float
    length: float | None
    seed: int | None


class Listening(TypedDict, total=False):
    """What goes along with listening: keyword arguments of `Engine.listen` beside those of `Hearing`.

    Attributes:
        told: is told after each step how far the recording was heard; what it raises ends the listening.
        tower: embeds the clips instead of the engine's own tower.
        longest: second of the recording beyond which nothing is decoded.
    """

    told: Told | None
    tower: Embedder | None
    longest: float | None


CLIP_OPTIONS = frozenset({"window", "pad", "hop", "length", "seed"})
"""Those of `Hearing` that say how clips are made; the others say what is read."""


def listen(
    source: AudioSource,
    hearing: Hearing,
    tower: Embedder,
    *,
    clip_maker: ClipMaker,
    fusion: Fusion,
    told: Told | None = None,
    longest: float | None = None,
) -> RecordingEmbeddings:
    """Read a recording and embed it, a few clips at a time and no more of it than the clips can hear.

    Args:
        source: a path, bytes, a file object, or samples.
        hearing: how it is heard.
        tower: embeds the clips.
        clip_maker: makes them.
        fusion: which clips are fused, see `ClipOptions`.
        told: is told how far it got; what it raises ends the listening.
        longest: second of the recording beyond which nothing is decoded; None reads to its end.

    Raises:
        AudioError: the recording cannot be used.
        UsageError: the options contradict each other.
    """
    clip_options: dict[str, Any] = {name: value for name, value in hearing.items() if name in CLIP_OPTIONS}
    span: dict[str, Any] = {name: value for name, value in hearing.items() if name not in CLIP_OPTIONS}
    options = ClipOptions(fusion=fusion, **clip_options)
    began = time.perf_counter()
    rows, spans, embedding = [], [], 0.0
    if longest is not None:
        _check_span(span, longest)
    with audio.opened(source, **span) as stream:
        wanted = clip_maker.wanted_seconds(options)
        stream.limit(wanted)
        blocks = stream if longest is None else _Bounded(stream, longest, wanted)
        opened = time.perf_counter() - began
        for clips in clip_maker.stream(blocks, options, samples=stream.samples):
            made = time.perf_counter()
            rows.append(tower.embed(clips.features, clips.is_longer))
            spans += [(stream.start + first, stream.start + last) for first, last in clips.spans]
            embedding += time.perf_counter() - made
            if told:
                told(spans[-1][1], stream.until)
        decode = opened + stream.spent
        end = min(stream.end, max(last for _, last in spans))
        heard = Coverage(round(stream.start, 3), round(end, 3), round(stream.of, 3))
        said = (*stream.warnings, *unheard(heard, stream.until))
    frontend = time.perf_counter() - began - decode - embedding
    return RecordingEmbeddings(np.concatenate(rows), tuple(spans), heard, said, decode, frontend)


class _Bounded:
    """The blocks of a stream, which end in an error where the recording goes on for too long."""

    def __init__(self, stream: audio.Stream, longest: float, wanted: float | None) -> None:
        """Refuse at once what is known to be too long.

        Args:
            stream: the recording.
            longest: the last second that may be decoded.
            wanted: seconds that are decoded at most.
        """
        self._stream, self._longest = stream, longest
        self._check(min(stream.until, stream.start + (math.inf if wanted is None else wanted)))

    def __iter__(self) -> Iterator[Float32Array]:
        """Read the stream; it may be done again."""
        for block in self._stream:
            self._check(self._stream.end)
            yield block

    def _check(self, until: float) -> None:
        """Raise `AudioSpanError` if the recording would be decoded too far."""
        if until > self._longest + ROUNDING_SECONDS:
            raise _too_long(f"{self._stream.name} would be decoded to {until:.0f} s", self._longest)


def _check_span(span: Mapping[str, Any], longest: float) -> None:
    """Refuse a span that begins too late, and one that would be searched for silence too far, before it is read."""
    start, duration = span.get("start", 0.0), span.get("duration")
    if start > longest:
        raise _too_long(f"start is {start:g} s", longest)
    if span.get("trim_silence") is None:
        return
    if duration is None:
        raise AudioSpanError("silence is trimmed only of a span with an end here; give a duration")
    if start + duration > longest + ROUNDING_SECONDS:
        raise _too_long(f"silence would be searched for to {start + duration:g} s", longest)


def _too_long(found: str, longest: float) -> AudioSpanError:
    """Return the error of a recording that would be decoded too far."""
    return AudioSpanError(
        f"{found}, and no more than {longest:g} s are decoded here; ask for a part with start and duration"
    )


def listen_many(
    sources: Iterable[AudioSource], hear: Callable[[AudioSource, Told], RecordingEmbeddings], *, workers: int
) -> Generator[RecordingEmbeddings | AudioError, None, None]:
    """Yield what listening to each recording came to, in their order; one that cannot be used gives its error.

    Args:
        sources: taken one by one, as workers become free, a few ahead of what was taken.
        hear: listens to one recording, and tells how far it got.
        workers: recordings that are listened to at once.
    """
    waiting: deque[Future[RecordingEmbeddings]] = deque()
    remaining, left = iter(sources), threading.Event()

    def told(*_: float) -> None:
        if left.is_set():
            raise AudioError("nobody waits for the rest of this recording")

    pool = ThreadPoolExecutor(workers)
    try:
        while True:
            for source in islice(remaining, AHEAD * workers - len(waiting)):
                waiting.append(pool.submit(hear, source, told))
            if not waiting:
                return
            try:
                yield waiting.popleft().result()
            except AudioError as error:
                yield error
    finally:
        left.set()
        pool.shutdown(cancel_futures=True)
