"""The listener: sound out of the buffer, window by window, to records of events."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import msgspec
import numpy as np

from clapedge.arrays import Float32Array
from clapedge.audio.stream import SAMPLE_RATE, Stream
from clapedge.engine import Engine
from clapedge.errors import AudioFormatError, UsageError
from clapedge.events.rules import EventRule, Span
from clapedge.events.timeline import HOP_SECONDS, WINDOW_SECONDS
from clapedge.events.tracker import EventUpdate, Tracker
from clapedge.features.clips import ClipMaker, ClipOptions, Clips
from clapedge.labels.encoder import Labels
from clapedge.live.buffer import Chunk
from clapedge.live.clip_recorder import LONGEST_SECONDS, ClipRecorder, ClipStore
from clapedge.live.clock import Clock, Stamps
from clapedge.live.records import EventSink, Reason, Record
from clapedge.live.segment import ContinuousSegment, Levels, Taken
from clapedge.scoring import similarity as scoring

SHORTEST_HOP, LONGEST_HOP = 0.5, 10.0
"""Seconds from one window to the next: more often tells nothing new of windows of seconds, more seldom is not live."""

GRID_SECONDS = 0.01
"""Windows on multiples of a frame's hop share their log-mels, so that each is computed once."""

REMEMBERED = 1000
"""Windows of which the times are kept for percentiles."""

MILLISECONDS = 3
"""Decimals of seconds that are told."""

FULL_SHARE = 0.8
"""Share of the time that hearing may take with a recommended hop: the rest is for what comes in between."""


@dataclass(frozen=True)
class ListenOptions:
    """How live sound is heard.

    Attributes:
        window: seconds that each window hears, at most a clip's 10.
        hop: seconds from one window to the next, 0.5 to 10, and at most the window.
        rule: when a label counts as heard.
        channel: the channel to hear, counted from 0; None hears the mean of all.
        gate: dBFS; a window whose loudest tenth of a second is below it is not given to the tower. None hears all.
        update: seconds after which an event that goes on is told again; 0 never does.
        stall: seconds without sound after which events are ended.
    """

    window: float = WINDOW_SECONDS
    hop: float = HOP_SECONDS
    rule: EventRule = field(default_factory=EventRule)
    channel: int | None = None
    gate: float | None = None
    update: float = 60.0
    stall: float = 10.0

    def __post_init__(self) -> None:
        """Refuse values that cannot be."""
        if not SHORTEST_HOP <= self.hop <= LONGEST_HOP:
            raise UsageError(f"hop is {self.hop:g} s; give {SHORTEST_HOP:g} to {LONGEST_HOP:g} s")
        if not self.hop <= self.window < math.inf:
            raise UsageError(
                f"a hop of {self.hop:g} s leaves parts unheard between windows of {self.window:g} s; make it shorter"
            )
        for name, seconds in (("window", self.window), ("hop", self.hop)):
            if not math.isclose(seconds / GRID_SECONDS, round(seconds / GRID_SECONDS), rel_tol=0, abs_tol=1e-6):
                raise UsageError(f"{name} is {seconds} s; give a multiple of {GRID_SECONDS} s")
        if self.gate is not None and not (math.isfinite(self.gate) and self.gate <= 0):
            raise UsageError(f"gate is {self.gate} dBFS; give a level below full scale, such as -50")
        for name, seconds in (("update", self.update), ("stall", self.stall)):
            if not (math.isfinite(seconds) and seconds >= 0):
                raise UsageError(f"{name} is {seconds} s; give a number of seconds")


@dataclass
class Counts:
    """What was done so far.

    Attributes:
        windows: windows that the tower heard.
        gated: windows that were too quiet for it.
        events: events that ended, by label.
        stalls: how often sound stopped coming.
        gaps: how often sound was interrupted, stalls included.
        window_ms: how long the latest windows took, from samples to scores.
        latency_ms: from the arrival of a window's last sample until it was done with, of the latest windows.
        delay_ms: from the beginning of an event to its first record, of the latest events.
    """

    windows: int = 0
    gated: int = 0
    events: dict[str, int] = field(default_factory=dict)
    stalls: int = 0
    gaps: int = 0
    window_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    latency_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    delay_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))


class Feed(Protocol):
    """Where sound is taken from: `AudioBuffer`."""

    dropped_seconds: float

    def take(self, timeout: float) -> Taken:
        """Return the next chunk, see `AudioBuffer.take`."""
        ...


@dataclass(frozen=True)
class ListenerContext:
    """What a listener is connected to.

    Attributes:
        source: what is heard, by name.
        run: what ids of events begin with; unlike that of any other run.
        clock: tells the time.
        stamps: turn places in the sound into times.
        sinks: where records go.
        say: tells people.
        clip_store: keeps clips of events, or None.
    """

    source: str
    run: str
    clock: Clock
    stamps: Stamps
    sinks: Sequence[EventSink]
    say: Callable[[str], None]
    clip_store: ClipStore | None = None


class Listener:
    """Hears live sound and tells of events."""

    def __init__(self, engine: Engine, labels: Labels, options: ListenOptions, around: ListenerContext) -> None:
        """Embed the labels; nothing is heard yet.

        Raises:
            LabelError: the labels cannot be used.
            UsageError: the window is longer than a clip.
        """
        front_end = engine.bundle.manifest.front_end
        if options.window > front_end.clip_seconds:
            raise UsageError(f"window is {options.window:g} s; a clip is {front_end.clip_seconds:g} s long at most")
        self.counts = Counts()
        self._engine, self._options, self._around = engine, options, around
        self._clip_maker = ClipMaker(front_end)
        self._labels = engine.embed_labels(labels)
        label_set = self._labels.label_set
        self._scale = engine.bundle.manifest.logit_scale / self._labels.temperature
        self._shown = [place for place, label in enumerate(label_set.labels) if not label.hidden]
        self._names = [label_set.labels[place].name for place in self._shown]
        self._thresholds = [label_set.labels[place].threshold for place in self._shown]
        self._numbers = itertools.count(1)
        self._dropped = self._done = self._waited = 0.0

    def hear(self, feed: Feed) -> None:
        """Hear until the feed ends."""
        chunk = self._awaited(feed, stalled=False)
        while chunk is not None:
            segment = ContinuousSegment(chunk, lambda: self._taken(feed))
            with suppress(AudioFormatError):  # a sound so short that no sample of it is left at 48 kHz
                self._hear_segment(segment)
            if segment.ended_by == "ended":
                return
            self.counts.gaps += 1
            self._explain(feed)
            chunk = segment.following
            if chunk is None:
                chunk = self._awaited(feed, stalled=True)
            elif chunk.fresh:
                self._follow(chunk, fresh=True)

    def _hear_segment(self, segment: ContinuousSegment) -> None:
        """Hear sound without gaps, as a recording is heard."""
        options, around, start = self._options, self._around, segment.start
        stream = Stream(segment, around.source, channel=options.channel)
        levels = Levels(options.window + options.hop, muted=self._tell_muted)
        recorder = self._recorder(start)
        tracker = Tracker(
            self._thresholds,
            options.rule,
            window=options.window,
            start=start,
            update=options.update,
            number=lambda: next(self._numbers),
        )
        self._done, self._waited = around.clock.monotonic(), 0.0
        for clips in self._clips(_tapped(stream, levels, recorder)):
            span = Span(*(start + place for place in clips.spans[0]))
            tell = partial(self._tell, segment=segment, recorder=recorder, reached=span.end)
            for event_update in tracker.hear(span, *self._scores(clips, levels)):
                tell(event_update, reason="quiet" if event_update.kind == "end" else None)
            if recorder:
                recorder.settle(span.end)
            self._count_window(segment, span.end)
        end = start + round(stream.end, MILLISECONDS)
        for event_update in tracker.close(end):
            reason: Reason = "end" if segment.ended_by == "ended" else "gap"
            self._tell(event_update, segment=segment, recorder=recorder, reached=end, reason=reason)
        for sentence in stream.warnings:
            around.say(sentence)

    def _scores(self, clips: Clips, levels: Levels) -> tuple[list[float], list[float]]:
        """Return the probabilities and similarities of a window, one a label that is shown."""
        first, stop = (round(place * SAMPLE_RATE) for place in clips.spans[0])
        gate = self._options.gate
        if gate is not None and levels.loudest(first, stop) < gate:
            self.counts.gated += 1
            return [0.0] * len(self._shown), [-1.0] * len(self._shown)
        self.counts.windows += 1
        embedding = self._engine.audio_tower.embed(clips.features, clips.is_longer)
        similarity = scoring.similarities(embedding, self._labels.embeddings)
        probability = scoring.probabilities(similarity, self._scale)
        return probability[0, self._shown].tolist(), similarity[0, self._shown].tolist()

    def _tell(
        self,
        event_update: EventUpdate,
        *,
        segment: ContinuousSegment,
        recorder: ClipRecorder | None,
        reached: float,
        reason: Reason | None,
    ) -> None:
        """Hand a record to every sink."""
        around, manifest = self._around, self._engine.bundle.manifest
        latency = around.clock.monotonic() - segment.arrival_of(reached)
        delay = latency + reached - event_update.start
        label = self._names[event_update.label]
        record = Record(
            kind=event_update.kind,
            id=f"{around.run}-{event_update.number}",
            sequence=event_update.sequence,
            label=label,
            start=round(event_update.start, MILLISECONDS),
            end=round(event_update.end, MILLISECONDS),
            peak=round(event_update.peak.centre, MILLISECONDS),
            probability=event_update.peak.probability,
            similarity=event_update.peak.similarity,
            at=around.stamps.at(event_update.start),
            until=around.stamps.at(event_update.end),
            latency_ms=round(1e3 * latency, MILLISECONDS),
            delay_ms=round(1e3 * delay, MILLISECONDS),
            reason=reason,
            clip=None,
            source=around.source,
            model=manifest.model,
            weights=manifest.weights,
            variant=self._engine.variant,
            provider=self._engine.provider_config.provider,
        )
        if recorder:
            record = msgspec.structs.replace(record, clip=recorder.take(record))
        self._count_event(record)
        data = msgspec.json.encode(record)
        for sink in around.sinks:
            sink.take(record, data)

    def _count_event(self, record: Record) -> None:
        """Count what was told."""
        if record.kind == "begin":
            self.counts.delay_ms.append(record.delay_ms)
        elif record.kind == "end":
            self.counts.events[record.label] = self.counts.events.get(record.label, 0) + 1

    def _count_window(self, segment: ContinuousSegment, reached: float) -> None:
        """Measure the window that was just done with."""
        now = self._around.clock.monotonic()
        self.counts.window_ms.append(1e3 * (now - self._done - self._waited))
        if segment.ended_by is None:  # else it waited for sound that did not come
            self.counts.latency_ms.append(1e3 * (now - segment.arrival_of(reached)))
        self._done, self._waited = now, 0.0

    def _clips(self, samples: Iterable[Float32Array]) -> Iterator[Clips]:
        """Make the windows of a segment, one at a time."""
        options = ClipOptions("slide", fusion=self._engine.fusion, hop=self._options.hop, length=self._options.window)
        return self._clip_maker.stream(samples, options, batch=1)

    def _recorder(self, start: float) -> ClipRecorder | None:
        """Return what cuts events out of a segment that begins there, if they are kept."""
        options, clip_store = self._options, self._around.clip_store
        lag = 2 * options.window + options.hop + min(options.rule.min_duration, LONGEST_SECONDS)
        return ClipRecorder(clip_store, start, lag=lag) if clip_store else None

    def _taken(self, feed: Feed) -> Taken:
        """Wait for the next chunk, and look at the clock."""
        began = self._around.clock.monotonic()
        taken = feed.take(self._options.stall)
        self._waited += self._around.clock.monotonic() - began
        if isinstance(taken, Chunk) and not taken.fresh:  # else the events before it are to be stamped first
            self._follow(taken, fresh=False)
        return taken

    def _awaited(self, feed: Feed, *, stalled: bool) -> Chunk | None:
        """Wait for the first chunk of a segment, as long as it takes; None at the end."""
        began = self._around.clock.monotonic()
        if stalled:
            self._tell_stall()
        while not isinstance(taken := feed.take(self._options.stall), Chunk):
            if taken == "ended":
                return None
            if not stalled:
                self._tell_stall()
            stalled = True
        if stalled:
            self._around.say(f"sound again after {self._around.clock.monotonic() - began:.0f} s more")
        self._follow(taken, fresh=True)
        return taken

    def _follow(self, chunk: Chunk, *, fresh: bool) -> None:
        """Keep stamps with the clock."""
        words = self._around.stamps.follow(chunk.end, monotonic=chunk.monotonic, wall=chunk.wall, fresh=fresh)
        if words:
            self._around.say(words)

    def _tell_stall(self) -> None:
        """Say that no sound comes."""
        self.counts.stalls += 1
        self._around.say(f"no sound from {self._around.source} for {self._options.stall:g} s; waiting for it")

    def _tell_muted(self) -> None:
        """Say that there is sound, but nothing in it."""
        source = self._around.source
        self._around.say(f"nothing from {source} exceeds -80 dBFS for a minute; is the microphone muted?")

    def _explain(self, feed: Feed) -> None:
        """Say how much sound was dropped since the last time, and what helps."""
        dropped, self._dropped = feed.dropped_seconds - self._dropped, feed.dropped_seconds
        if dropped:
            took = float(np.median(self.counts.window_ms)) if self.counts.window_ms else 0.0
            hop = min(LONGEST_HOP, max(SHORTEST_HOP, math.ceil(2 * took / 1e3 / FULL_SHARE) / 2))
            slow = hop > self._options.hop
            advice = (
                f"use --hop {hop:g} or a smaller model" if slow else "let other programs wait, or feed it no faster"
            )
            self._around.say(
                f"overloaded: the oldest {dropped:.1f} s of sound were dropped, {self._dropped:.1f} s in all; a window "
                f"takes {took:.0f} ms every {1e3 * self._options.hop:.0f} ms; {advice}"
            )


def _tapped(samples: Iterable[Float32Array], levels: Levels, recorder: ClipRecorder | None) -> Iterator[Float32Array]:
    """Yield samples, and let those hear them who need more than windows."""
    for block in samples:
        levels.hear(block)
        if recorder:
            recorder.hear(block)
        yield block
