"""Places where sounds are recorded: a room, a background, things that happen in it, and a level of all that.

Backgrounds too are split by recipe: those of `CHOOSING` serve the choice of a method, those of `UNSEEN` its test.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from clapedge.arrays import Float32Array
from clapedge_demo.synth.parts import (
    RATE,
    Random,
    Samples,
    band,
    decay,
    fade,
    harmonics,
    highpass,
    length,
    log_uniform,
    lowpass,
    noise,
    normalise,
    place,
    poisson_starts,
    resonate,
    room,
    silence,
    sine,
    wander,
)
from families import Recipe

HUM_STEPS = 65_536
"""Samples of one turn of a hum."""

Background = Callable[[Random, float], Samples]


def hum(frequency: float, seconds: float, weights: Samples) -> Samples:
    """Return what `harmonics` does for a steady pitch, to 50 dB, in a tenth of its time: days of background need it."""
    turn = np.fft.irfft(np.append(0.0, weights) * -0.5j, HUM_STEPS) * HUM_STEPS
    phase = np.arange(1, length(seconds) + 1) * (frequency / RATE) % 1.0
    return turn[(phase * HUM_STEPS).astype(np.int64)]


def server_room(rng: Random, seconds: float) -> Samples:
    """Many small fans: a band of noise with a few steady tones."""
    tones = sum(sine(rng.uniform(200, 900), seconds) for _ in range(4))
    return band(noise(rng, seconds, slope=2.0), 100, 5000, order=1) + 0.15 * tones


def street(rng: Random, seconds: float) -> Samples:
    """Distant traffic: low noise that swells and falls."""
    return lowpass(noise(rng, seconds, slope=4.0), 800) * np.clip(1 + 0.6 * wander(rng, seconds, 0.4), 0.2, 3)


def kitchen(rng: Random, seconds: float) -> Samples:
    """A refrigerator's hum, and dishes now and then."""
    total = 0.3 * harmonics(50.0, seconds, rng.uniform(0.1, 1.0, 8)) + 0.2 * noise(rng, seconds, slope=5.0)
    for start in poisson_starts(rng, seconds, 0.4):
        place(total, rng.uniform(0.3, 1.5) * sine(rng.uniform(1500, 4500), 0.3) * decay(0.3, 0.05), start)
    return total


def workshop(rng: Random, seconds: float) -> Samples:
    """A hall of machines: hum, rumble, and impacts far away."""
    total = 0.4 * hum(rng.uniform(24, 50), seconds, rng.uniform(0.1, 1.0, 12))
    total += band(noise(rng, seconds, slope=3.0), 60, 3000, order=1)
    for start in poisson_starts(rng, seconds, 0.6):
        place(
            total,
            rng.uniform(0.5, 2.0) * resonate(noise(rng, 0.2) * decay(0.2, 0.03), rng.uniform(300, 1200), 5),
            start,
        )
    return total


def forest(rng: Random, seconds: float) -> Samples:
    """Leaves in the wind: bright noise in gusts, and a far bird."""
    gusts = np.clip(0.6 + 0.5 * wander(rng, seconds, 0.6), 0.1, 2.0)
    total = highpass(noise(rng, seconds, slope=2.0), 500) * gusts
    for start in poisson_starts(rng, seconds, 0.3):
        place(total, 0.4 * fade(sine(log_uniform(rng, 2500, 5000), 0.12), 0.04), start)
    return total


def chatter(rng: Random, seconds: float) -> Samples:
    """A room full of voices too far away to understand: syllables of many throats."""
    total = silence(seconds)
    for start in poisson_starts(rng, seconds, 14):
        held = rng.uniform(0.08, 0.25)
        voice = harmonics(rng.uniform(90, 260), held, 1 / np.arange(1, 18))
        place(total, rng.uniform(0.3, 1.0) * fade(resonate(voice, rng.uniform(400, 2200), 3), 0.03), start)
    return total + 0.3 * noise(rng, seconds, slope=4.0)


CHOOSING: Mapping[str, Background] = MappingProxyType(
    {"server room": server_room, "street": street, "kitchen": kitchen}
)
UNSEEN: Mapping[str, Background] = MappingProxyType({"workshop": workshop, "forest": forest, "chatter": chatter})


def clip(
    recipe: Recipe, background: Background, *, thing: int, take: int, snr: float, seconds: float = 5.0
) -> Float32Array:
    """Render one recording of a thing at a site.

    Args:
        recipe: its family.
        background: the site.
        thing: which of the family it is.
        take: which recording of it.
        snr: dB by which the sound's power, over the parts where it is within 30 dB of its loudest, exceeds the
            background's.
        seconds: length.

    Returns:
        Mono samples (seconds * 48000,) float32 in ±1.
    """
    rng = np.random.default_rng([thing, take, *recipe.__name__.encode()])
    sound = normalise(recipe(np.random.default_rng([thing, *recipe.__name__.encode()]), rng, seconds))
    sound = normalise(room(rng, sound, seconds=log_uniform(rng, 0.08, 0.8), wet=rng.uniform(0.0, 0.6)))
    bed = background(rng, seconds)
    gain = active_power(sound) / max(float((bed**2).mean()), 1e-12) / 10 ** (snr / 10)
    level = 10 ** (rng.uniform(-25, -3) / 20)
    return (level * normalise(sound + np.sqrt(gain) * bed)).astype(np.float32)


def active_power(sound: Samples) -> float:
    """Return the mean power of the parts (10 ms) of a sound that are within 30 dB of its loudest."""
    powers = (sound[: len(sound) // 480 * 480].reshape(-1, 480) ** 2).mean(axis=1)
    return float(powers[powers > powers.max() / 1000].mean())
