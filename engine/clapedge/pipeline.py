"""A recording to the embeddings of its clips, read and embedded a few clips at a time.

`embed_stream` is the one way from sound to embeddings: progress is the loop over it, cancelling is leaving that loop.
"""

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any, Protocol, TypedDict

import numpy as np

from clapedge import audio
from clapedge.arrays import BoolArray, Float32Array
from clapedge.audio import AudioSource, BlockDecoder, ReadOptions, Resample
from clapedge.errors import AudioError
from clapedge.features.clips import BATCH_CLIPS, ClipMaker, ClipOptions, Window
from clapedge.features.fusion import Fusion
from clapedge.features.padding import Pad
from clapedge.features.strips import Strips
from clapedge.scoring.result import Coverage, RecordingEmbeddings, Timing

AHEAD = 4
"""Recordings that wait or are embedded for each worker, so that none idles while a long one is at the head."""

AUDIBLE_REST = 0.05
"""Seconds that may be left out without a warning: less than any event."""


class Embedder(Protocol):
    """What embeds clips: an `AudioTower`."""

    def embed(self, features: Float32Array, is_longer: BoolArray) -> Float32Array:
        """Embed clips, see `AudioTower.embed`."""
        ...


class ReadKeywords(TypedDict, total=False):
    """The fields of `ReadOptions` as keyword arguments."""

    sample_rate: int | None
    start: float
    duration: float | None
    channel: int | None
    trim_silence: float | None
    resample: Resample


class RecordingOptions(ReadKeywords, total=False):
    """The fields of `ReadOptions` and of `ClipOptions`, less `fusion`, as keyword arguments."""

    window: Window
    pad: Pad
    hop: float
    length: float | None
    seed: int | None
    strips: Strips | None


READ_FIELDS = frozenset(field.name for field in fields(ReadOptions))


def split_options(options: Mapping[str, Any], *, fusion: Fusion) -> tuple[ReadOptions, ClipOptions]:
    """Return what is read, and how clips are made of it, from `RecordingOptions`.

    Raises:
        UsageError: a value is impossible.
        TypeError: there is no such option.
    """
    read = {name: value for name, value in options.items() if name in READ_FIELDS}
    clip = {name: value for name, value in options.items() if name not in READ_FIELDS}
    return ReadOptions(**read), ClipOptions(fusion=fusion, **clip)


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """The embeddings of some clips of a recording.

    Attributes:
        embeddings: (n, E) float32, rows of unit norm.
        spans: what each clip covers, in seconds of the recording.
        position: second up to which the recording is embedded.
        end: second where it ends, as far as known.
    """

    embeddings: Float32Array
    spans: tuple[tuple[float, float], ...]
    position: float
    end: float


class EmbedStream:
    """Iterates the embeddings of one recording's clips; nothing is opened before the first one is asked for.

    Leaving the loop closes the recording. `coverage`, `warnings` and `timing` are there when it is exhausted.

    Attributes:
        source: the recording.
        tower: embeds the next batch; it may be exchanged between two of them for one that gives the same bits.
        coverage: the span that the clips cover.
        warnings: sentences about the recording.
        timing: where the time went.
    """

    coverage: Coverage
    warnings: tuple[str, ...]
    timing: Timing

    def __init__(
        self,
        source: AudioSource | BlockDecoder,
        clip_maker: ClipMaker,
        tower: Embedder,
        read_options: ReadOptions,
        clip_options: ClipOptions,
        *,
        max_seconds: float | None = None,
        batch: int = BATCH_CLIPS,
    ) -> None:
        """Prepare to read a recording; use `Engine.embed_stream`.

        Args:
            source: a path, bytes, a file object, or samples.
            clip_maker: makes the clips.
            tower: embeds them.
            read_options: which part of the recording.
            clip_options: how it becomes clips.
            max_seconds: second of the recording beyond which nothing is decoded; None decodes to its end.
            batch: clips at once, at most.
        """
        self.tower = tower
        self.source, self._clip_maker = source, clip_maker
        self._read_options, self._clip_options = read_options, clip_options
        self._max_seconds, self._batch = max_seconds, batch

    def __iter__(self) -> Iterator[ClipBatch]:
        """Read and embed the recording from its beginning.

        Raises:
            AudioError: it cannot be used.
            UsageError: the options contradict each other.
        """
        began = time.perf_counter()
        reached = embedding = paused = 0.0
        with audio.opened(self.source, self._read_options, max_seconds=self._max_seconds) as recording:
            recording.limit(self._clip_maker.wanted_seconds(self._clip_options))
            decoding = time.perf_counter() - began
            for clips in self._clip_maker.stream(
                recording, self._clip_options, samples=recording.samples, batch=self._batch
            ):
                made = time.perf_counter()
                embeddings = self.tower.embed(clips.features, clips.is_longer)
                embedding += time.perf_counter() - made
                spans = tuple((recording.start + first, recording.start + last) for first, last in clips.spans)
                reached = max(reached, *(last for _, last in spans))
                left = time.perf_counter()
                yield ClipBatch(embeddings, spans, spans[-1][1], recording.until)
                paused += time.perf_counter() - left
            decoding += recording.spent
            end = min(recording.end, reached)
            self.coverage = Coverage(*(round(place, 3) for place in (recording.start, end, recording.duration)))
            self.warnings = (*recording.warnings, *_uncovered(self.coverage, recording.until))
        total = time.perf_counter() - began - paused
        seconds = (decoding, total - decoding - embedding, embedding, total)
        self.timing = Timing(*(round(1e3 * value, 3) for value in seconds))

    def collect(self) -> RecordingEmbeddings:
        """Embed the whole recording at once."""
        return self.join(list(self))

    def join(self, batches: Sequence[ClipBatch]) -> RecordingEmbeddings:
        """Return what all the batches of an exhausted stream come to."""
        clips = np.concatenate([batch.embeddings for batch in batches])
        spans = tuple(span for batch in batches for span in batch.spans)
        file = audio.source_name(self.source)
        frontend = self._clip_maker.frontend(self._clip_options)
        about = (self.coverage, self.warnings, self.timing, frontend, self._clip_options.strips)
        return RecordingEmbeddings(file, clips, spans, *about)


def embed_many(
    streams: Iterable[EmbedStream], *, workers: int
) -> Generator[RecordingEmbeddings | AudioError, None, None]:
    """Yield what each recording is embedded to, in their order; one that cannot be used gives its error.

    Args:
        streams: taken one by one, as workers become free, a few ahead of what was taken.
        workers: recordings that are embedded at once.
    """
    waiting: deque[Future[RecordingEmbeddings]] = deque()
    remaining, left = iter(streams), threading.Event()
    pool = ThreadPoolExecutor(workers)
    try:
        while True:
            for stream in islice(remaining, AHEAD * workers - len(waiting)):
                waiting.append(pool.submit(_collect_unless, left, stream))
            if not waiting:
                return
            try:
                yield waiting.popleft().result()
            except AudioError as error:
                yield error
    finally:
        left.set()
        pool.shutdown(cancel_futures=True)


def _collect_unless(left: threading.Event, stream: EmbedStream) -> RecordingEmbeddings:
    """Embed a recording, unless an event is set meanwhile."""
    batches = []
    for batch in stream:
        if left.is_set():
            raise AudioError("the rest of this recording was not read, since nobody waits for it")
        batches.append(batch)
    return stream.join(batches)


def _uncovered(coverage: Coverage, until: float) -> list[str]:
    """Return a warning of how much is left out of the span that was asked for, which lasts until so many seconds."""
    rest = until - coverage.end
    if rest < AUDIBLE_REST:
        return []
    return [
        (
            f"covers {coverage.start:g} to {coverage.end:g} s, not the remaining {rest:.1f} s; "
            'use window="slide" or window="fuse" for all of it'
        )
    ]
