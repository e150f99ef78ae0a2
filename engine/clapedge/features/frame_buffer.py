"""A recording that comes in blocks, of which only what is still needed is kept: samples, and frames made of them."""

from collections.abc import Iterable, Iterator

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.features.log_mel import LogMel

EDGE_FRAMES = 2
"""Frames at each end of a clip that reach its reflection: half a window (512 samples) is less than 2 hops (960)."""


RUN_FRAMES = 1000
"""Frames of a long recording that are computed together: 10 s."""


class FrameBuffer:
    """What is still needed of a recording that comes in blocks: its latest samples, and frames computed from them.

    Positions are counted from the first sample and the first frame of the recording.
    """

    def __init__(self, blocks: Iterable[Float32Array], log_mel: LogMel) -> None:
        """Start before the first block."""
        self._blocks = iter(blocks)
        self._log_mel = log_mel
        self._samples = np.empty(0, np.float32)
        self._start = 0
        self._mel = np.empty((0, log_mel.n_mels), np.float32)
        self._first = 0
        self._ended = False

    @property
    def end(self) -> int:
        """Samples that have come so far."""
        return self._start + len(self._samples)

    def reach(self, start: int, count: int) -> bool:
        """Take blocks until the samples [start, start + count) are there; False if the recording ends before.

        What lies before `start` is dropped, but for the last `count` samples that came.
        """
        parts, end = [self._samples], self.end
        while end < start + count and not self._ended:
            part = next(self._blocks, None)
            if part is None:
                self._ended = True
                break
            parts.append(part)
            end += len(part)
            while len(parts) > 1 and self._start + len(parts[0]) <= min(start, end - count):
                self._start += len(parts.pop(0))
        unneeded = max(0, min(start, end - count) - self._start)
        self._samples = (parts[0] if len(parts) == 1 else np.concatenate(parts))[unneeded:]
        self._start += unneeded
        return end >= start + count

    def finish(self) -> int:
        """Take the blocks that are left without keeping them, and return the number of samples of the recording."""
        return self.end + sum(map(len, self._blocks))

    def samples(self, start: int, stop: int) -> Float32Array:
        """Return the samples [start, stop), which must have come and not have been dropped."""
        return self._samples[start - self._start : stop - self._start]

    def frames(self, first: int, stop: int) -> Float32Array:
        """Return the frames [first, stop) as log-mels; those that the call before returned are not computed again.

        Where the samples end within reach of a frame, it sees their reflection: that must be the recording's end.
        """
        held = self._first + len(self._mel)
        if not self._first <= first <= held:
            self._mel, self._first, held = self._mel[:0], first, first
        if stop > held:
            hop = self._log_mel.hop_length
            lead = min(held, EDGE_FRAMES)
            samples = self.samples((held - lead) * hop, min(self.end, (stop + EDGE_FRAMES) * hop))
            new = self._log_mel(samples)[lead : lead + stop - held]
            self._mel = np.concatenate([self._mel[first - self._first :], new])
            self._first = first
        return self._mel[first - self._first : stop - self._first]


def stream_log_mels(blocks: Iterable[Float32Array], log_mel: LogMel) -> Iterator[Float32Array]:
    """Yield all log-mels of a recording that comes in blocks, (n, n_mels) in dB, at most `RUN_FRAMES` at a time.

    One no longer than a frame gives none: it cannot be reflected at its ends.
    """
    buffer, hop_length = FrameBuffer(blocks, log_mel), log_mel.hop_length
    first, more = 0, True
    while more:
        stop, begin = first + RUN_FRAMES, max(0, first - EDGE_FRAMES) * hop_length
        more = buffer.reach(begin, (stop + EDGE_FRAMES) * hop_length - begin)
        if not more:
            stop = log_mel.frames(buffer.end)
        if buffer.end <= log_mel.n_fft or stop <= first:
            return
        yield buffer.frames(first, stop)
        first = stop
