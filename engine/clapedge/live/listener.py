"""The listener: sound out of the buffer, window by window, to events."""

import itertools
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.audio import SAMPLE_RATE, Stream
from clapedge.engine import Engine
from clapedge.errors import AudioFormatError, UsageError
from clapedge.events.rules import Span
from clapedge.events.tracker import Tracker
from clapedge.features.clips import ClipOptions, Clips
from clapedge.labels.encoder import Labels
from clapedge.live.alarms.watch import ASLEEP, GATED, SCORED, AlarmWatch
from clapedge.live.buffer import AudioBuffer, Chunk
from clapedge.live.clip_recorder import LONGEST_SECONDS, ClipRecorder
from clapedge.live.context import ListenerContext
from clapedge.live.levels import LevelHistory
from clapedge.live.options import LONGEST_HOP, SHORTEST_HOP, ListenOptions
from clapedge.live.publisher import MILLISECONDS, EventPublisher
from clapedge.live.records import Reason
from clapedge.live.segment import ContinuousSegment
from clapedge.live.segment_events import SegmentEvents
from clapedge.live.segment_levels import SegmentLevels
from clapedge.live.sound_levels import Minutes
from clapedge.live.status import Counts
from clapedge.model.tower_set import TowerChoice

logger = logging.getLogger("clapedge.live")

REASONS: dict[str | None, Reason] = {"ended": "end", "paused": "paused"}
"""Why events end that go on where their segment does, by what ended that; else there is a gap."""

FULL_SHARE = 0.8
"""Share of the time that windows may take with a recommended hop: the rest is for interruptions."""


class Listener:
    """Scores live sound and publishes its events.

    Attributes:
        counts: what was done so far.
    """

    def __init__(self, engine: Engine, labels: Labels, options: ListenOptions, context: ListenerContext) -> None:
        """Embed the labels.

        Raises:
            LabelError: the labels cannot be used.
            UsageError: the window is longer than a clip, or no short tower can be taken.
        """
        clip_seconds = engine.bundle.manifest.front_end.clip_seconds
        if options.window > clip_seconds:
            raise UsageError(f"window is {options.window:g} s; a clip is {clip_seconds:g} s long at most")
        self.counts = Counts()
        self._engine, self._options, self._context = engine, options, context
        self._scorer = engine.scorer(labels)
        strips = engine.strips_for(options.window, self._scorer, _tower_choice(options, context))
        self._tower = engine.towers.open(strips).alone
        self._clip_options = ClipOptions(
            "slide", fusion=engine.fusion, hop=options.hop, length=options.window, strips=strips
        )
        calibrated = options.level_offset is not None
        about = (self._scorer.names, engine.made_with(strips), self.counts)
        self._publisher = EventPublisher(context, *about, calibrated=calibrated, cooldown=options.cooldown)
        self.counts.alarms = {rule.name: 0 for rule in context.alarms.rules} if context.alarms else {}
        self._watch = AlarmWatch(context, options, self.labels, self._scorer.thresholds)
        self._minutes = Minutes(offset=options.level_offset)
        self._numbers = itertools.count(1)
        self._dropped = self._cpu_began = 0.0

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels that are reported."""
        return tuple(self._scorer.names)

    def run(self, buffer: AudioBuffer) -> None:
        """Process sound until the buffer is closed and empty."""
        self._cpu_began = time.thread_time()
        self._run(buffer)
        for began, level in self._minutes.finish():
            self._publisher.publish_minute(began, level)

    def _run(self, buffer: AudioBuffer) -> None:
        """Process segment after segment."""
        context = self._context
        chunk = self._wait_for_sound(buffer, stalled=False)
        self._watch.begin()
        while chunk is not None:
            segment = ContinuousSegment(
                chunk, buffer, clock=context.clock, stamps=context.stamps, timeout=self._options.stall
            )
            with suppress(AudioFormatError):  # a sound so short that no sample of it is left at 48 kHz
                self._process(segment)
            if segment.ended_by == "ended":
                return
            self.counts.gaps += segment.ended_by != "paused"
            self._log_dropped(buffer)
            chunk = segment.following
            if chunk is None:
                chunk = self._wait_for_sound(buffer, stalled=segment.ended_by == "stalled")
            elif chunk.fresh:
                self._restart_stamps(chunk)

    def _process(self, segment: ContinuousSegment) -> None:
        """Process a segment as a recording is processed: it goes through the same stream, clips and tracker."""
        options, clock = self._options, self._context.clock
        stream = Stream(segment, self._context.source, channel=options.channel)
        levels, recorder = LevelHistory(options.window + options.hop), self._recorder(segment.start)
        tracker = Tracker(
            self._scorer.thresholds,
            options.rule,
            window=options.window,
            start=segment.start,
            update=options.update,
            numbers=self._numbers,
        )
        done, waited = clock.monotonic(), 0.0
        sound_levels = self._sound_levels(segment.start)
        events = SegmentEvents(self._publisher, self._watch, recorder, sound_levels)
        samples = self._metered(stream, levels, [each for each in (recorder, sound_levels) if each])
        for clips in self._engine.clip_maker.stream(samples, self._clip_options, batch=1):
            span = Span(*(segment.start + place for place in clips.spans[0]))
            updates = tracker.push(span, *self._scores(clips, levels, span.end))
            arrival = segment.arrival_of(span.end)
            events.publish(updates, reached=span.end, arrival=arrival, reason="quiet")
            if self._watch.for_alarms:
                events.look(tracker.ongoing(), reached=span.end, arrival=arrival)
            if recorder:
                recorder.cut_long(span.end, self._context.stamps.seconds(span.end))
            now = clock.monotonic()
            self.counts.window_ms.append(1e3 * (now - done - (segment.waited - waited)))
            self.counts.own_cpu_s = time.thread_time() - self._cpu_began
            if segment.ended_by is None:  # else it waited for sound that did not come
                self.counts.latency_ms.append(1e3 * (now - arrival))
            done, waited = now, segment.waited
        end = segment.start + round(stream.end, MILLISECONDS)
        arrival = segment.arrival_of(end)
        if sound_levels:
            sound_levels.finish()
        reason = REASONS.get(segment.ended_by, "gap")
        events.publish(tracker.close(end), reached=end, arrival=arrival, reason=reason)
        self._watch.gap(end, "stalled" if segment.ended_by == "stalled" else reason)
        for sentence in stream.warnings:
            logger.warning("%s", sentence)

    def _sound_levels(self, start: float) -> SegmentLevels | None:
        """Return what measures the levels of a segment that begins at `start`, if they are measured."""
        options, publish = self._options, self._publisher.publish_minute
        offset = options.level_offset
        parts = (self._context.stamps, self._minutes, publish)
        return SegmentLevels(start, *parts, offset=offset) if options.levels else None

    def _metered(
        self, stream: Stream, levels: LevelHistory, others: Sequence[ClipRecorder | SegmentLevels]
    ) -> Iterator[Float32Array]:
        """Yield the samples of a stream, once they are measured and recorded."""
        for block in stream:
            if levels.push(block):
                source = self._context.source
                logger.warning("nothing from %s exceeds -80 dBFS for a minute; is the microphone muted?", source)
            for each in others:
                each.push(block)
            yield block

    def _scores(self, clips: Clips, levels: LevelHistory, end: float) -> tuple[list[float], list[float]]:
        """Return the probabilities and similarities of a window, one for each visible label.

        Args:
            clips: the window.
            levels: how loud its sound is.
            end: where it ends, in seconds of sound.
        """
        outcome, probability, similarity = self._scored(clips, levels, end)
        centre = end - self._options.window / 2
        self._watch.window(centre, outcome, similarity if self._options.rule.multi else probability)
        return probability, similarity

    def _scored(self, clips: Clips, levels: LevelHistory, end: float) -> tuple[str, list[float], list[float]]:
        """Return what became of a window, and its scores; see `_scores`."""
        first, stop = (round(place * SAMPLE_RATE) for place in clips.spans[0])
        gate, hours, count = self._options.gate, self._options.hours, len(self._scorer.names)
        if hours is not None and not hours.contain(self._context.stamps.seconds(end)):
            self.counts.asleep += 1
            return ASLEEP, [0.0] * count, [-1.0] * count
        if gate is not None and levels.loudest(first, stop) < gate:
            self.counts.gated += 1
            return GATED, [0.0] * count, [-1.0] * count
        self.counts.windows += 1
        with self._context.turns:
            embedding = self._tower.embed(clips.features, clips.is_longer)
        if self._context.background is not None:
            self._context.background.add(embedding)
        probability, similarity = self._scorer.visible_scores(embedding)
        return SCORED, probability[0].tolist(), similarity[0].tolist()

    def _recorder(self, start: float) -> ClipRecorder | None:
        """Return what cuts clips out of a segment that begins at `start`, if they are kept."""
        options, clip_store = self._options, self._context.clip_store
        lag = 2 * options.window + options.hop + min(options.rule.min_duration, LONGEST_SECONDS)
        return ClipRecorder(clip_store, start, lag=lag) if clip_store else None

    def _wait_for_sound(self, buffer: AudioBuffer, *, stalled: bool) -> Chunk | None:
        """Wait for the first chunk of a segment, as long as it takes; None at the end."""
        began = self._context.clock.monotonic()
        if stalled:
            self._note_stall()
        while not isinstance(popped := buffer.pop(self._options.stall), Chunk):
            if popped == "ended":
                return None
            if popped == "stalled" and not stalled:
                self._note_stall()
            stalled = popped == "stalled"
        if stalled:
            logger.info("sound again after %.0f s more", self._context.clock.monotonic() - began)
        self._restart_stamps(popped)
        return popped

    def _restart_stamps(self, chunk: Chunk) -> None:
        """Let stamps follow the clock from a chunk on, before which there was a pause of unknown length."""
        self._context.stamps.follow(chunk.end, monotonic=chunk.monotonic, wall=chunk.wall, fresh=True)

    def _note_stall(self) -> None:
        """Count that no sound comes, and log it."""
        self.counts.stalls += 1
        logger.warning("no sound from %s for %g s; waiting for it", self._context.source, self._options.stall)

    def _log_dropped(self, buffer: AudioBuffer) -> None:
        """Log how much sound was dropped since the last time, and what helps."""
        dropped, self._dropped = buffer.dropped_seconds - self._dropped, buffer.dropped_seconds
        if not dropped:
            return
        took = float(np.median(self.counts.window_ms)) if self.counts.window_ms else 0.0
        hop = min(LONGEST_HOP, max(SHORTEST_HOP, math.ceil(2 * took / 1e3 / FULL_SHARE) / 2))
        slow = hop > self._options.hop
        advice = f"use hop={hop:g} or a smaller model" if slow else "let other programs wait, or feed it no faster"
        logger.warning(
            "overloaded: the oldest %.1f s of sound were dropped, %.1f s in all; a window takes %.0f ms every %.0f ms; "
            "%s",
            *(dropped, self._dropped, took, 1e3 * self._options.hop, advice),
        )


def _tower_choice(options: ListenOptions, context: ListenerContext) -> TowerChoice:
    """Return which tower is asked for: the background that is learned is to be of the whole one."""
    if context.background is None:
        return options.tower
    if options.tower == "short":
        raise UsageError("background is learned by the whole tower; leave out either learning or the short tower")
    return "whole"
