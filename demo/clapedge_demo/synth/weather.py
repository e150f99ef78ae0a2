"""Sounds of weather, water and nothing at all."""

import numpy as np

from clapedge_demo.synth.parts import (
    Random,
    Samples,
    band,
    decay,
    highpass,
    impulses,
    length,
    log_uniform,
    lowpass,
    noise,
    place,
    poisson_starts,
    silence,
    sine,
    steady_starts,
    times,
    wander,
)


def white_noise(rng: Random, seconds: float) -> Samples:
    """Static: noise without any shape in time, white or slightly tilted."""
    return noise(rng, seconds, slope=rng.uniform(-0.5, 1.0))


def wind(rng: Random, seconds: float) -> Samples:
    """Gusts: low noise and a howl whose pitch and strength wander."""
    gust = np.clip(0.6 + 0.6 * wander(rng, seconds, rng.uniform(0.4, 1.2)), 0.05, 2.0)
    rumble = lowpass(noise(rng, seconds, slope=4.5), rng.uniform(250, 700)) * gust
    centre = rng.uniform(300, 900)
    howl = np.zeros(length(seconds))
    for ratio in (0.8, 1.0, 1.25):
        narrow = band(noise(rng, seconds), centre * ratio * 0.93, centre * ratio * 1.07, order=1)
        howl += narrow * np.clip(0.5 + 0.7 * wander(rng, seconds, 0.8), 0, None)
    return rumble / rumble.std() + rng.uniform(0.2, 0.9) * gust * howl / howl.std()


def water_drops(rng: Random, seconds: float) -> Samples:
    """Drops into water: short tones that bend upwards, one or two a second."""
    total = silence(seconds)
    rate = rng.uniform(1.0, 4.5)
    starts = steady_starts(rng, seconds, 1 / rate, jitter=rng.uniform(0, 0.4))
    for start in starts:
        held, pitch = rng.uniform(0.06, 0.16), log_uniform(rng, 600, 1900)
        bend = 1 + rng.uniform(0.3, 1.0) * times(held) / held
        place(total, rng.uniform(0.4, 1.0) * sine(pitch * bend, held) * decay(held, held / 3, attack=0.003), start)
    return total


def thunder(rng: Random, seconds: float) -> Samples:
    """A crack and a long, rolling rumble."""
    total = silence(seconds)
    start = rng.uniform(-0.3, 0.8)
    while start < seconds:
        held = rng.uniform(2.5, 5.0)
        roll = np.clip(0.7 + 0.7 * wander(rng, held, 4), 0.0, 2.0) * decay(held, held / 2.5, attack=0.05)
        rumble = lowpass(noise(rng, held, slope=6.0), rng.uniform(90, 280)) * roll
        place(total, rumble / rumble.std(), start + 0.1)
        if rng.random() < 0.7:
            place(total, rng.uniform(1.0, 4.0) * noise(rng, 0.6, slope=3.0) * decay(0.6, 0.1, attack=0.01), start)
        start += held + rng.uniform(0.0, 1.0)
    return total


def quiet(rng: Random, seconds: float) -> Samples:
    """An empty room: hardly more than the noise of the microphone."""
    return noise(rng, seconds, slope=rng.uniform(0.0, 5.0))


def rain(rng: Random, seconds: float) -> Samples:
    """Rain: dense, even noise of drops, with single drops on leaves or roofs."""
    base = highpass(noise(rng, seconds, slope=rng.uniform(-1, 3)), rng.uniform(200, 1200), order=1)
    drops = band(impulses(rng, seconds, log_uniform(rng, 80, 2500)), rng.uniform(800, 2500), 10_000, order=1)
    near = silence(seconds)
    for start in poisson_starts(rng, seconds, rng.uniform(1, 25)):
        held = rng.uniform(0.01, 0.03)
        place(near, rng.exponential(1.0) * noise(rng, held) * decay(held, held / 4, attack=0.0005), start)
    return base / base.std() + rng.uniform(0.2, 1.5) * drops / drops.std() + rng.uniform(0.0, 0.8) * near / near.std()


def sea_waves(rng: Random, seconds: float) -> Samples:
    """Surf: noise that swells and breaks every few seconds, brighter at the crest."""
    now = times(seconds)
    swell = np.zeros(len(now))
    for _ in range(rng.integers(1, 4)):
        period = rng.uniform(2.5, 8.0)
        phase = (now / period + rng.random()) % 1.0
        swell += np.where(phase < 0.35, (phase / 0.35) ** 2, np.exp(-(phase - 0.35) * rng.uniform(2, 5)))
    deep = lowpass(noise(rng, seconds, slope=3.0), rng.uniform(500, 1500)) * (0.3 + 0.5 * swell)
    foam = band(noise(rng, seconds, slope=1.5), rng.uniform(500, 1200), 9000, order=1) * swell**1.5
    return deep / deep.std() + rng.uniform(0.4, 1.5) * foam / foam.std()
