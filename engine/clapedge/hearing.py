"""Listening: a recording to the embeddings of its clips, read and embedded a few clips at a time."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Protocol, TypeAlias, TypedDict

import numpy as np

from clapedge import audio
from clapedge.audio import AudioSource, Resample
from clapedge.clips import BoolArray, ClipMaker, ClipOptions, Fusion, Pad, Window
from clapedge.errors import AudioError
from clapedge.mel import Float32Array
from clapedge.result import Heard, Listened, unheard

AHEAD = 4
"""Recordings that wait or are listened to for each worker, so that none idles while a long one is at the head."""

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
) -> Listened:
    """Read a recording and embed it, a few clips at a time and no more of it than the clips can hear.

    Args:
        source: a path, bytes, a file object, or samples.
        hearing: how it is heard.
        tower: embeds the clips.
        clip_maker: makes them.
        fusion: which clips are fused, see `ClipOptions`.
        told: is told how far it got; what it raises ends the listening.

    Raises:
        AudioError: the recording cannot be used.
        UsageError: the options contradict each other.
    """
    clip_options: dict[str, Any] = {name: value for name, value in hearing.items() if name in CLIP_OPTIONS}
    span: dict[str, Any] = {name: value for name, value in hearing.items() if name not in CLIP_OPTIONS}
    options = ClipOptions(fusion=fusion, **clip_options)
    began = time.perf_counter()
    rows, spans, embedding = [], [], 0.0
    with audio.opened(source, **span) as stream:
        stream.limit(clip_maker.wanted_seconds(options))
        opened = time.perf_counter() - began
        for clips in clip_maker.stream(stream, options, samples=stream.samples):
            made = time.perf_counter()
            rows.append(tower.embed(clips.features, clips.is_longer))
            spans += [(stream.start + first, stream.start + last) for first, last in clips.spans]
            embedding += time.perf_counter() - made
            if told:
                told(spans[-1][1], stream.until)
        decode = opened + stream.spent
        end = min(stream.end, max(last for _, last in spans))
        heard = Heard(round(stream.start, 3), round(end, 3), round(stream.of, 3))
        said = (*stream.warnings, *unheard(heard, stream.until))
    frontend = time.perf_counter() - began - decode - embedding
    return Listened(np.concatenate(rows), tuple(spans), heard, said, decode, frontend)


def listen_many(
    sources: Iterable[AudioSource], hear: Callable[[AudioSource, Told], Listened], *, workers: int
) -> Generator[Listened | AudioError, None, None]:
    """Yield what listening to each recording came to, in their order; one that cannot be used gives its error.

    Args:
        sources: taken one by one, as workers become free, a few ahead of what was taken.
        hear: listens to one recording, and tells how far it got.
        workers: recordings that are listened to at once.
    """
    waiting: deque[Future[Listened]] = deque()
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
