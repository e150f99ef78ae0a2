"""Sound levels as sound level meters show them: A-weighted, LAeq and LAFmax, of events and of minutes.

A microphone that was not calibrated gives no sound pressure: levels are then dBFS, 0 being a sine of full scale (as
AES17 has it). With the sound pressure level at which such a sine would be recorded, they are those of a level meter.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array, Float64Array
from clapedge.audio import SAMPLE_RATE

POLES_HERTZ = (20.598997, 107.65265, 737.86223, 12194.217)
"""Of the A-weighting, the first and the last one double (IEC 61672-1:2013, Annex E)."""

GAIN_1000 = 10 ** (2.000 / 20)
"""What brings the weighting to 0 dB at 1 kHz (same place)."""

REACH = 4096
"""Samples on either side that the weighting reads: of its response, 135 dB less energy lies beyond."""

STEP = 8192
"""Samples weighted at once, so that a Fourier transform is of 16384."""

FAST_SECONDS = 0.125
"""Time constant of the time weighting F (IEC 61672-1:2013, 5.8)."""

PIECE = SAMPLE_RATE // 2000
"""Samples of a mean square that the time weighting takes: 0.5 ms, so that the highest level is off by 0.02 dB."""

BLOCK = 200
"""Pieces of a block, a tenth of a second: events begin and end on a coarser grid."""

BLOCK_SECONDS = BLOCK * PIECE / SAMPLE_RATE

MINUTE_BLOCKS = round(62 / BLOCK_SECONDS)
"""Blocks of a minute, as much as stamps may differ from the clock included: more, of sound that comes too fast, begin
another record."""

KEPT_BLOCKS = 36_000
"""Blocks that are kept: an hour, which an event rarely lasts; of a longer one the last hour counts."""

SINE_POWER = 0.5
"""Mean square of a sine of full scale."""

FLOOR_POWER = 1e-15
"""Mean square that counts as silence: -147 dBFS, below the noise of 24 bits."""

DECIMALS = 1
"""Of levels in records: meters show a tenth of a decibel."""


@dataclass(frozen=True)
class Level:
    """The level of a span of sound.

    Attributes:
        laeq: equivalent continuous level in dB, A-weighted.
        lafmax: highest level in dB, A-weighted, time weighting F.
        seconds: how much sound they are of.
    """

    laeq: float
    lafmax: float
    seconds: float


def a_weighting(hertz: Float64Array) -> Float64Array:
    """Return the gain of the A-weighting at frequencies in Hz, 1 at 1 kHz (IEC 61672-1:2013, formula E.6)."""
    squared, poles = hertz**2, [pole**2 for pole in POLES_HERTZ]
    middle = np.sqrt((squared + poles[1]) * (squared + poles[2]))
    return np.asarray(GAIN_1000 * poles[3] * squared**2 / ((squared + poles[0]) * middle * (squared + poles[3])))


@cache
def _response() -> npt.NDArray[np.complex128]:
    """Return the transform of the weighting's symmetric impulse response, of `STEP + 2 * REACH` samples."""
    # of zero phase, so that it is the standard's up to the end of the band, where a recursive filter bends away
    size = STEP + 2 * REACH
    whole = np.fft.irfft(a_weighting(np.asarray(np.fft.rfftfreq(4 * size, 1 / SAMPLE_RATE), np.float64)))
    return np.asarray(np.fft.rfft(np.concatenate([whole[-REACH:], whole[: REACH + 1]]), size), np.complex128)


class SoundLevelMeter:
    """Levels of sound that comes in blocks of any length; they do not depend on how it is cut.

    Attributes:
        measured: seconds from the beginning that blocks were made of.
    """

    def __init__(self, *, offset: float | None = None) -> None:
        """Begin in silence.

        Args:
            offset: sound pressure level in dB at which a sine of full scale would be recorded; None leaves dBFS.
        """
        self._offset = offset or 0.0
        self._samples = np.zeros(REACH)
        self._weighted = np.empty(0)
        self._fast = 0.0
        self._powers: deque[tuple[float, float]] = deque(maxlen=KEPT_BLOCKS)
        self._count = self._total = 0

    @property
    def measured(self) -> float:
        """Seconds from the beginning that are measured; the latest quarter of a second is not yet."""
        return self._count * BLOCK_SECONDS

    def push(self, samples: Float32Array) -> list[tuple[float, float]]:
        """Measure samples (n,) at 48 kHz, and return mean square and highest fast-weighted square of each new block."""
        # what is no number would spread over all that the weighting reads
        numbers = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
        self._samples = np.concatenate([self._samples, numbers])
        self._total += len(samples)
        parts = []
        while len(self._samples) >= STEP + 2 * REACH:
            parts.append(self._weigh(self._samples[: STEP + 2 * REACH])[:STEP])
            self._samples = self._samples[STEP:]
        return self._blocks(np.concatenate(parts)) if parts else []

    def finish(self) -> list[tuple[float, float]]:
        """Measure what is left, as if silence followed, and return its whole blocks."""
        whole = self._total // (BLOCK * PIECE)
        found = self.push(np.zeros(STEP + 2 * REACH, np.float32))
        surplus = max(0, self._count - whole)
        for _ in range(surplus):
            self._powers.pop()
        self._count -= surplus
        return found[: len(found) - surplus]

    def between(self, start: float, end: float) -> Level | None:
        """Return the level of the blocks that touch [start, end), in seconds from the beginning; None without any."""
        oldest = self._count - len(self._powers)
        low, high = max(oldest, int(start / BLOCK_SECONDS)), min(self._count, int(np.ceil(end / BLOCK_SECONDS - 1e-9)))
        return level_of(list(islice(self._powers, low - oldest, max(low, high) - oldest)), offset=self._offset)

    def _weigh(self, samples: Float64Array) -> Float64Array:
        """Return samples A-weighted, from the one after `REACH` on."""
        spectrum = np.fft.rfft(samples) * _response()
        return np.asarray(np.fft.irfft(spectrum, len(samples))[2 * REACH :])

    def _blocks(self, weighted: Float64Array) -> list[tuple[float, float]]:
        """Return the blocks that weighted samples complete."""
        joined = np.concatenate([self._weighted, weighted])
        whole = len(joined) // (BLOCK * PIECE)
        used = whole * BLOCK * PIECE
        self._weighted = joined[used:]
        squares = np.mean(joined[:used].reshape(whole, BLOCK, PIECE) ** 2, axis=2)
        found = [(float(pieces.mean()), float(self._follow(pieces).max())) for pieces in squares]
        self._powers.extend(found)
        self._count += whole
        return found

    def _follow(self, squares: Float64Array) -> Float64Array:
        """Return mean squares, exponentially averaged with the time constant of F."""
        decay = np.exp(-PIECE / SAMPLE_RATE / FAST_SECONDS)
        powers = decay ** np.arange(1, len(squares) + 1)
        averaged = powers * (self._fast + np.cumsum((1 - decay) * squares / powers))
        self._fast = float(averaged[-1])
        return np.asarray(averaged)


class Minutes:
    """Levels of the minutes of the clock, of blocks with their times; a minute that sound is missing of says so."""

    def __init__(self, *, offset: float | None = None) -> None:
        """Begin without sound; see `SoundLevelMeter`."""
        self._offset = offset or 0.0
        self._minute: int | None = None
        self._blocks: list[tuple[float, float]] = []

    def add(self, seconds: float, block: tuple[float, float]) -> Iterator[tuple[float, Level]]:
        """Add a block that begins at a time (seconds since 1970); yield the minute that it ends, by its beginning."""
        minute = int(seconds // 60)
        # stamps that were synchronised may go back by a little, which is still this minute; a clock that was set, more
        returns = self._minute is not None and minute == self._minute - 1
        if (minute != self._minute and not returns) or len(self._blocks) >= MINUTE_BLOCKS:
            yield from self.finish()
            self._minute = minute
        self._blocks.append(block)

    def finish(self) -> Iterator[tuple[float, Level]]:
        """Yield the minute that is not over, if there is sound of it."""
        if level := level_of(self._blocks, offset=self._offset):
            yield 60.0 * (self._minute or 0), level
        self._blocks = []


def level_of(blocks: list[tuple[float, float]], *, offset: float) -> Level | None:
    """Return the level of blocks, or None of none."""
    if not blocks:
        return None
    mean, highest = float(np.mean([power for power, _ in blocks])), max(fast for _, fast in blocks)
    decibels = (10 * np.log10(max(power, FLOOR_POWER) / SINE_POWER) + offset for power in (mean, highest))
    laeq, lafmax = (round(float(value), DECIMALS) for value in decibels)
    return Level(laeq, lafmax, round(len(blocks) * BLOCK_SECONDS, 1))
