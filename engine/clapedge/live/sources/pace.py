"""Whether a pipe of raw samples delivers as much sound as time passes: a wrong sample rate shows in nothing else."""

import logging

logger = logging.getLogger("clapedge.live")

JUDGED_SECONDS = 30.0
"""Of sound and of time, whichever is reached first: several times what waits in a pipe when listening begins."""

FAST, SLOW = 1.5, 0.75
"""Seconds of sound a second that are noted. Two channels given as one deliver 2, 48 kHz given as 16 kHz 3, and the
other way round a half and a third; sound cards differ from their rate by a thousandth."""

PAUSE_SECONDS = 1.0
"""A longer pause is not the pace of samples: the measurement begins anew after it."""


class Pace:
    """The pace of a pipe, which is judged once."""

    def __init__(self, name: str, sample_rate: int, channels: int) -> None:
        """Measure a source of this name, which is read with this sample rate and so many channels."""
        self._name, self._rate, self._channels = name, sample_rate, channels
        self._began = self._latest = 0.0
        self._frames: int | None = None

    def push(self, frames: int, now: float) -> None:
        """Count frames that came now, in seconds of the monotonic clock."""
        if self._frames == -1:
            return
        if self._frames is None or now - self._latest > PAUSE_SECONDS:
            self._began, self._frames = now, 0
        self._latest = now
        self._frames += frames
        sound, passed = self._frames / self._rate, now - self._began
        if max(sound, passed) < JUDGED_SECONDS:
            return
        self._frames = -1
        if SLOW * passed < sound < FAST * passed:
            return
        logger.warning(
            "%s delivered %.1f s of sound in %.1f s: if it is live, rate=%d or channels=%d is wrong%s",
            *(self._name, sound, passed, self._rate, self._channels),
            "" if sound < passed else "; a recording waits, and nothing of it is lost",
        )
