"""What is read of a recording: the source of the options of Python, the command line and the service."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from clapedge.errors import UsageError

Resample = Literal["VHQ", "HQ", "MQ", "LQ", "QQ"]
"""Qualities of soxr's resampler, from the best to the quickest."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What is read of a recording.

    Attributes:
        sample_rate: Hz of an array; None means 48000. Files carry their own.
        start: where to begin, in seconds.
        duration: seconds to read at most; None reads to the end.
        channel: the channel to read, counted from 0; None reads the mean of all.
        trim_silence: dBFS (say -60); leading and trailing samples that do not exceed it are left out. None keeps them.
        resample: soxr's quality; a recording at 48 kHz is not resampled.
    """

    sample_rate: int | None = None
    start: float = 0.0
    duration: float | None = None
    channel: int | None = None
    trim_silence: float | None = None
    resample: Resample = "VHQ"

    def __post_init__(self) -> None:
        """Raise `UsageError` if a value is impossible."""
        if self.sample_rate is not None and not float(self.sample_rate).is_integer():
            raise UsageError(f"sample_rate is {self.sample_rate} Hz; give a whole number")
        if not (math.isfinite(self.start) and self.start >= 0):
            raise UsageError(f"start is {self.start} s; give seconds from the beginning, 0 or more")
        if self.duration is not None and not (math.isfinite(self.duration) and self.duration > 0):
            raise UsageError(f"duration is {self.duration} s; give a number of seconds greater than 0")
        if self.resample not in get_args(Resample):
            raise UsageError(f"resample is {self.resample!r}; give one of {', '.join(get_args(Resample))}")
        if self.trim_silence is not None and not (math.isfinite(self.trim_silence) and self.trim_silence <= 0):
            raise UsageError(f"trim_silence is {self.trim_silence} dBFS; give a level below full scale, such as -60")
        if self.channel is not None and self.channel < 0:
            raise UsageError(f"channel is {self.channel}; channels are counted from 0")
