"""Building blocks of synthesised sounds: oscillators, noises, envelopes, filters, a room.

Signals are float64 arrays of mono samples at `RATE`; levels are relative, the caller normalises at the end.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import signal

RATE = 48_000
"""Samples per second, the rate that CLAP hears."""

Samples: TypeAlias = npt.NDArray[np.float64]
Random: TypeAlias = np.random.Generator


def length(seconds: float) -> int:
    """Return the number of samples of so many seconds, at least one."""
    return max(1, round(seconds * RATE))


def times(seconds: float) -> Samples:
    """Return the time of every sample in seconds."""
    return np.arange(length(seconds)) / RATE


def log_uniform(rng: Random, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform between the logarithms of `low` and `high`."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def sine(frequency: float | Samples, seconds: float, *, phase: float = 0.0) -> Samples:
    """Return a sine of a constant frequency in Hz, or of one given for every sample."""
    steps = np.broadcast_to(np.asarray(frequency, np.float64), (length(seconds),))
    return np.sin(2 * np.pi * np.cumsum(steps) / RATE + phase)


def harmonics(frequency: float | Samples, seconds: float, weights: Sequence[float] | Samples) -> Samples:
    """Return a sum of sines at 1, 2, 3 … times `frequency` with the given weights; what exceeds 20 kHz is left out."""
    steps = np.broadcast_to(np.asarray(frequency, np.float64), (length(seconds),))
    phase = 2 * np.pi * np.cumsum(steps) / RATE
    top = float(steps.max())
    total = np.zeros(len(steps))
    for order, weight in enumerate(weights, start=1):
        if order * top < 20_000 and abs(weight) > 1e-4:
            total += weight * np.sin(order * phase)
    return total


def square(frequency: float | Samples, seconds: float, *, partials: int = 9) -> Samples:
    """Return a band-limited square wave: odd harmonics that fall as 1 / n."""
    weights = [1 / order if order % 2 else 0.0 for order in range(1, 2 * partials)]
    return harmonics(frequency, seconds, weights)


def saw(frequency: float | Samples, seconds: float, *, partials: int = 20) -> Samples:
    """Return a band-limited sawtooth: all harmonics, falling as 1 / n."""
    return harmonics(frequency, seconds, [1 / order for order in range(1, partials + 1)])


def noise(rng: Random, seconds: float, *, slope: float = 0.0) -> Samples:
    """Return Gaussian noise of unit variance whose power falls by `slope` dB an octave (0 white, 3 pink, 6 brown)."""
    count = length(seconds)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    bins = np.fft.rfftfreq(count, 1 / RATE)
    gain = np.maximum(bins, 20.0) ** (-slope / (20 * np.log10(2)))
    shaped = np.fft.irfft(spectrum * gain, count)
    return shaped / (shaped.std() + 1e-12)


def band(samples: Samples, low: float, high: float, *, order: int = 2) -> Samples:
    """Keep the band between `low` and `high` Hz (a Butterworth filter)."""
    edges = [max(low, 10.0), min(high, 0.49 * RATE)]
    return signal.sosfilt(signal.butter(order, edges, "bandpass", fs=RATE, output="sos"), samples)


def lowpass(samples: Samples, cutoff: float, *, order: int = 2) -> Samples:
    """Keep what is below `cutoff` Hz."""
    return signal.sosfilt(signal.butter(order, min(cutoff, 0.49 * RATE), fs=RATE, output="sos"), samples)


def highpass(samples: Samples, cutoff: float, *, order: int = 2) -> Samples:
    """Keep what is above `cutoff` Hz."""
    return signal.sosfilt(signal.butter(order, cutoff, "highpass", fs=RATE, output="sos"), samples)


def resonate(samples: Samples, frequency: float, quality: float) -> Samples:
    """Ring at one frequency: a two-pole resonator of the given quality."""
    numerator, denominator = signal.iirpeak(min(frequency, 0.49 * RATE), quality, fs=RATE)
    return signal.lfilter(numerator, denominator, samples)


def decay(seconds: float, constant: float, *, attack: float = 0.002) -> Samples:
    """Return an envelope that rises linearly for `attack` seconds and then falls by 1/e every `constant` seconds."""
    now = times(seconds)
    return np.minimum(1.0, now / max(attack, 1e-5)) * np.exp(-now / constant)


def fade(samples: Samples, seconds: float = 0.01) -> Samples:
    """Return the samples with both ends faded, so that they begin and end without a click."""
    count = min(length(seconds), len(samples) // 2)
    faded = samples.copy()
    if count:
        ramp = np.linspace(0.0, 1.0, count)
        faded[:count] *= ramp
        faded[-count:] *= ramp[::-1]
    return faded


def wander(rng: Random, seconds: float, rate: float) -> Samples:
    """Return a smooth random curve of mean 0 and about unit size that changes `rate` times a second."""
    knots = max(4, int(seconds * rate) + 4)
    curve = np.interp(np.linspace(0, knots - 1, length(seconds)), np.arange(knots), rng.standard_normal(knots))
    width = max(3, int(RATE / rate / 4))
    return signal.fftconvolve(curve, np.hanning(width) / np.hanning(width).sum(), mode="same")


def place(total: Samples, part: Samples, start: float) -> None:
    """Add `part` into `total` at `start` seconds, cutting what reaches beyond either end."""
    begin = round(start * RATE)
    skip = max(0, -begin)
    begin = max(0, begin)
    count = min(len(part) - skip, len(total) - begin)
    if count > 0:
        total[begin : begin + count] += part[skip : skip + count]


def silence(seconds: float) -> Samples:
    """Return so many seconds of zeros."""
    return np.zeros(length(seconds))


def steady_starts(rng: Random, seconds: float, period: float, *, jitter: float = 0.0) -> Samples:
    """Return the times of events every `period` seconds, from a random phase, each off by up to `jitter` periods."""
    starts = np.arange(rng.uniform(0.0, period), seconds, period)
    return starts + rng.uniform(-jitter, jitter, len(starts)) * period


def poisson_starts(rng: Random, seconds: float, rate: float) -> Samples:
    """Return the times of events that come at random, `rate` a second on average."""
    return np.sort(rng.uniform(0.0, seconds, max(1, rng.poisson(rate * seconds))))


def impulses(rng: Random, seconds: float, rate: float) -> Samples:
    """Return a train of random impulses of random sign and size, `rate` a second on average."""
    total = silence(seconds)
    where = rng.integers(0, len(total), max(1, rng.poisson(rate * seconds)))
    np.add.at(total, where, rng.standard_normal(len(where)))
    return total


def room(rng: Random, samples: Samples, *, seconds: float, wet: float) -> Samples:
    """Put a sound into a room: convolve it with exponentially falling noise of the given reverberation time."""
    tail = rng.standard_normal(length(seconds)) * np.exp(-6.9 * times(seconds) / seconds)
    tail = lowpass(tail, rng.uniform(2500, 9000), order=1)
    echo = signal.fftconvolve(samples, tail / np.sqrt((tail**2).sum()))[: len(samples)]
    return samples + wet * echo


def normalise(samples: Samples) -> Samples:
    """Scale to a peak of 1 (silence stays silence)."""
    peak = np.abs(samples).max()
    return samples / peak if peak > 1e-9 else samples
