"""The sound levels of a segment of live sound: of its events, and of the minutes of the clock."""

from collections.abc import Callable

from clapedge.arrays import Float32Array
from clapedge.live.clock import Stamps
from clapedge.live.sound_levels import BLOCK_SECONDS, Level, Minutes, SoundLevelMeter


class SegmentLevels:
    """Measures a segment, and publishes each minute that is over."""

    def __init__(
        self,
        start: float,
        stamps: Stamps,
        minutes: Minutes,
        publish: Callable[[float, Level], None],
        *,
        offset: float | None,
    ) -> None:
        """Begin at the beginning of a segment.

        Args:
            start: where the segment begins, in seconds of sound.
            stamps: turn positions in the sound into times.
            minutes: gathers the blocks of all segments.
            publish: takes the beginning of a minute, in seconds since 1970, and its level.
            offset: see `SoundLevelMeter`.
        """
        self._start, self._stamps, self._minutes, self._publish = start, stamps, minutes, publish
        self._meter = SoundLevelMeter(offset=offset)
        self._blocks = 0

    def push(self, samples: Float32Array) -> None:
        """Measure samples (n,) at 48 kHz."""
        self._take(self._meter.push(samples))

    def finish(self) -> None:
        """Measure the last of them."""
        self._take(self._meter.finish())

    def between(self, start: float, end: float) -> Level | None:
        """Return the level of [start, end), in seconds of sound, as far as it is measured; None if none of it is."""
        return self._meter.between(max(0.0, start - self._start), end - self._start)

    def _take(self, blocks: list[tuple[float, float]]) -> None:
        """Give each block to its minute."""
        for block in blocks:
            began = self._stamps.seconds(self._start + self._blocks * BLOCK_SECONDS)
            self._blocks += 1
            for minute, level in self._minutes.add(began, block):
                self._publish(minute, level)
