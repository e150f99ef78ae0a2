"""Samples that would spoil an embedding, and levels that make its scores doubtful."""

import numpy as np

from clapedge.arrays import Float32Array

SILENCE_PEAK = 1e-4
"""A recording that never exceeds this (-80 dBFS) is called silent."""

UNSCALED_PEAK = 16.0
"""Float samples beyond this (+24 dBFS) are taken for unscaled integers."""

GARBAGE_PEAK = 1e10
"""Samples beyond this, more than any integer, are damage; squared and summed they would overflow float32."""

CLIPPED_PEAK = 0.99
"""Full scale and a little less: 127/128 is the most that 8 bits reach."""

CLIPPED_SHARE = 1e-3
"""Share of clipped samples from which a recording is called clipped."""

OFFSET_PIECES_SECOND = 10
"""Tenths of a second, of which the quietest shows the offset of a microphone."""

OFFSET_RATIO = 10.0
"""An offset exceeds what else is in the quietest tenth by so much; less is noise, whose mean is never 0."""


def constant_offset(samples: Float32Array, *, sample_rate: int) -> float:
    """Return the constant that a cheap microphone adds to samples (n,), 0 if there is none."""
    length = sample_rate // OFFSET_PIECES_SECOND
    pieces = samples[: len(samples) // length * length].reshape(-1, length)
    if len(pieces) == 0:
        return 0.0
    means, spreads = pieces.mean(axis=1, dtype=np.float64), pieces.std(axis=1, dtype=np.float64)
    quietest = int(spreads.argmin())
    offset = float(means[quietest])
    # the crest of a slow wave is quiet and far from 0 too, but the mean of all is not there
    lasting = abs(float(means.mean()) - offset) < abs(offset) / 2
    return offset if lasting and abs(offset) > OFFSET_RATIO * float(spreads[quietest]) else 0.0


class LevelMeter:
    """Replaces impossible samples, mixes channels down, and measures levels."""

    def __init__(self) -> None:
        """Begin before the first sample."""
        self._values = 0
        self._garbage = 0
        self._clipped = 0
        self._peak = 0.0
        self._mixed_peak = 0.0
        self._mono_low, self._mono_high = np.inf, -np.inf

    def mix_down(self, frames: Float32Array) -> Float32Array:
        """Return the mean of the channels (n, channels), with zeros for what is not a finite number."""
        peak = max(float(frames.max()), -float(frames.min()))
        if not peak <= GARBAGE_PEAK:
            good = np.abs(frames) <= GARBAGE_PEAK
            self._garbage += int(np.count_nonzero(~good))
            frames = np.where(good, frames, np.float32(0))
            peak = float(np.abs(frames).max())
        self._peak = max(self._peak, peak)
        self._values += frames.size
        if peak >= CLIPPED_PEAK:
            self._clipped += _clipped(frames)
        if frames.shape[1] == 1:
            self._mixed_peak = self._peak
            return np.ascontiguousarray(frames[:, 0])
        # column by column, which a mean along so short an axis takes 25 times as long for
        mono: Float32Array = frames[:, 0] + frames[:, 1]
        for channel in range(2, frames.shape[1]):
            mono += frames[:, channel]
        mono /= frames.shape[1]
        if self._mixed_peak < SILENCE_PEAK:
            self._mixed_peak = max(self._mixed_peak, float(mono.max()), -float(mono.min()))
        return mono

    def measure(self, samples: Float32Array) -> None:
        """Measure mono samples (n,) that will be scored."""
        self._mono_low = min(self._mono_low, float(samples.min()))
        self._mono_high = max(self._mono_high, float(samples.max()))

    def warnings(self) -> list[str]:
        """Return what is wrong with the samples so far, as sentences."""
        if self._values == 0:
            return []
        faults = []
        if self._garbage:
            faults.append(f"{self._garbage} samples are not finite numbers; they are replaced by silence")
        if self._peak > UNSCALED_PEAK:
            faults.append(
                f"samples reach {self._peak:.0f} where ±1 is full scale: damage, or integers; "
                "divide integers by their range first"
            )
        elif self._clipped > CLIPPED_SHARE * self._values:
            share = 100 * self._clipped / self._values
            faults.append(f"it is clipped: {share:.1f} % of its samples are at full scale; record it with less gain")
        if self._mixed_peak < SILENCE_PEAK <= self._peak:
            faults.append("its channels cancel each other out, so the scores mean nothing; score one of them")
        elif (self._mono_high - self._mono_low) / 2 < SILENCE_PEAK:
            faults.append("it is silent: nothing exceeds -80 dBFS, so the scores mean nothing")
        return faults


def _clipped(frames: Float32Array) -> int:
    """Count the samples (n, channels) that stay equal at full scale for three in a row, or lie beyond it."""
    loud = np.abs(frames) >= CLIPPED_PEAK
    flat = loud[1:-1] & (frames[1:-1] == frames[:-2]) & (frames[1:-1] == frames[2:])
    return int(np.count_nonzero(flat) + np.count_nonzero(np.abs(frames) > 1.0))
