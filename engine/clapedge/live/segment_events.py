"""The events of a segment of live sound: each update is published, looked at for alarms, and written down."""

from collections.abc import Iterable
from dataclasses import dataclass

from clapedge.events.tracker import EventUpdate
from clapedge.live.alarms.watch import AlarmWatch
from clapedge.live.clip_recorder import ClipRecorder
from clapedge.live.publisher import EventPublisher
from clapedge.live.records import Reason
from clapedge.live.segment_levels import SegmentLevels
from clapedge.live.sound_levels import Level


@dataclass(frozen=True)
class SegmentEvents:
    """Where the events of a segment go.

    Attributes:
        publisher: makes their records.
        watch: for alarms and the journal.
        recorder: cuts their clips, or None.
        levels: measures how loud they are, or None.
    """

    publisher: EventPublisher
    watch: AlarmWatch
    recorder: ClipRecorder | None
    levels: SegmentLevels | None

    def publish(self, updates: Iterable[EventUpdate], *, reached: float, arrival: float, reason: Reason) -> None:
        """Publish what happened in a window.

        Args:
            updates: of events.
            reached: where the window ends, in seconds of sound.
            arrival: when it arrived, by the monotonic clock.
            reason: why events end, if they do.
        """
        for update in updates:
            level = self._level(update)
            held = self.publisher.publish(
                update, reached=reached, arrival=arrival, reason=reason, recorder=self.recorder, level=level
            )
            if update.kind == "end":
                if held is None:
                    self._look(update, reached, arrival, level)
                self.watch.end(update, held=held, level=level)

    def look(self, ongoing: Iterable[EventUpdate], *, reached: float, arrival: float) -> None:
        """Give the alarms that events in progress are worth now."""
        for update in ongoing:
            if not self.publisher.holds(update):
                self._look(update, reached, arrival, self._level(update))

    def _look(self, update: EventUpdate, reached: float, arrival: float, level: Level | None) -> None:
        """Give the alarms that an event is worth now."""
        for verdict in self.watch.look(update, reached, level):
            self.watch.note(
                self.publisher.publish_alarm(verdict, update, reached=reached, arrival=arrival, level=level)
            )

    def _level(self, update: EventUpdate) -> Level | None:
        """Return how loud an event is, as far as that is known."""
        return self.levels.between(update.start, update.end) if self.levels else None
