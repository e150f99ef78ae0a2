# ruff: noqa: PLR2004 - the figures of a recipe are the recipe
"""Sounds to choose a method of teaching with: recipes that neither the demo model's training nor `unseen.py` holds.

A recipe takes two generators: `thing` draws what this pump or that bird is, `rng` draws what happens in one clip of it.
So the same thing can be recorded again and again, and another thing of the same family too.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

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
    place,
    poisson_starts,
    resonate,
    silence,
    sine,
    steady_starts,
    times,
    wander,
)

Recipe = Callable[[Random, Random, float], Samples]


def modes(frequency: float, ratios: tuple[float, ...], ring: float) -> Samples:
    """Return a struck body: its modes at ratios of a frequency, the higher ones weaker and shorter."""
    held = min(6 * ring, 1.5)
    tones = (sine(frequency * r, held) * decay(held, ring / r**0.7, attack=0.0005) / r**0.5 for r in ratios)
    return np.asarray(np.sum(list(tones), axis=0))


def compressor(thing: Random, rng: Random, seconds: float) -> Samples:
    """A refrigerator's compressor: a hum at mains frequency and a rattle at its own."""
    base, rattle, tone = thing.uniform(45, 62), thing.uniform(7, 15), thing.uniform(300, 900)
    hum = harmonics(base * (1 + 0.003 * wander(rng, seconds, 1)), seconds, thing.uniform(0.1, 1.0, 10))
    knock = resonate(noise(rng, seconds) * (np.sin(2 * np.pi * rattle * times(seconds)) > 0.9), tone, 8)
    return np.asarray(hum / hum.std() + thing.uniform(0.3, 0.8) * knock / knock.std())


def contactor(thing: Random, rng: Random, seconds: float) -> Samples:
    """A contactor that buzzes and drops: a dull clack, a burst of 100 Hz buzz, a clack."""
    total, body, buzz = silence(seconds), thing.uniform(250, 700), thing.uniform(0.3, 0.9)
    pitch = 100 * thing.uniform(0.98, 1.2)
    start = rng.uniform(0.0, 0.8)
    while start < seconds:
        held = buzz * rng.uniform(0.8, 1.2)
        place(total, modes(body, (1.0, 2.7, 5.1), 0.02), start)
        place(total, 0.25 * fade(harmonics(pitch, held, 1 / np.arange(1, 30) ** 0.3), 0.01), start + 0.02)
        place(total, 0.7 * modes(body * 0.9, (1.0, 2.7, 5.1), 0.02), start + held)
        start += held + rng.uniform(0.5, 1.2)
    return total


def brake_squeal(thing: Random, rng: Random, seconds: float) -> Samples:
    """A brake that squeals: a loud, slowly bending tone with partials, stopping and starting."""
    pitch, bend = log_uniform(thing, 1800, 4500), thing.uniform(0.01, 0.06)
    curve = pitch * (1 + bend * wander(rng, seconds, 1.5))
    loud = np.clip(0.4 + 0.8 * wander(rng, seconds, 1.0), 0.0, 1.0)
    return loud * harmonics(curve, seconds, (1.0, 0.5, 0.3)) + 0.1 * loud * highpass(noise(rng, seconds), 2000)


def woodpecker(thing: Random, rng: Random, seconds: float) -> Samples:
    """A woodpecker: rolls of a dozen or so hollow strokes, a little faster towards the end."""
    total, wood, rate = silence(seconds), thing.uniform(600, 1500), thing.uniform(12, 24)
    count = int(thing.integers(8, 20))
    start = rng.uniform(0.0, 1.0)
    while start < seconds:
        now = 0.0
        for number in range(count):
            place(total, modes(wood, (1.0, 1.8, 3.1), 0.012) * np.sin(np.pi * (number + 1) / (count + 1)), start + now)
            now += 1 / (rate * (1 + 0.02 * number))
        start += now + rng.uniform(0.6, 1.6)
    return total


def finch(thing: Random, rng: Random, seconds: float) -> Samples:
    """A finch's song: a fixed row of syllables, slower then faster, with a buzzing flourish at its end."""
    total = silence(seconds)
    row = [(log_uniform(thing, 2500, 6500), thing.uniform(-0.4, 0.4), int(thing.integers(2, 6))) for _ in range(3)]
    start = rng.uniform(0.0, 0.8)
    while start < seconds:
        for number, (pitch, slope, count) in enumerate(row):
            held = 0.11 / (1 + 0.4 * number)
            for _ in range(count):
                glide = pitch * (1 + slope * (times(held) / held - 0.5)) * rng.uniform(0.99, 1.01)
                place(total, sine(glide, held) * np.hanning(length(held)), start)
                start += held * 1.35
        buzz = sine(row[0][0] * 0.7, 0.35) * (np.sin(2 * np.pi * 90 * times(0.35)) > 0)
        place(total, fade(buzz, 0.02), start)
        start += 0.35 + rng.uniform(0.6, 1.4)
    return total


def bubbling(thing: Random, rng: Random, seconds: float) -> Samples:
    """An air stone in a tank: bubbles, each a short rising tone, many a second."""
    total, rate, size = silence(seconds), thing.uniform(15, 40), log_uniform(thing, 500, 1400)
    for start in poisson_starts(rng, seconds, rate):
        held = rng.uniform(0.02, 0.06)
        glide = size * rng.uniform(0.7, 1.5) * (1 + rng.uniform(0.3, 0.8) * times(held) / held)
        place(total, rng.uniform(0.3, 1.0) * sine(glide, held) * decay(held, held / 3), start)
    return total


def wobbling_fan(thing: Random, rng: Random, seconds: float) -> Samples:
    """A bathroom fan off its axis: air noise that comes and goes with each turn, and a soft knock."""
    turn, low = thing.uniform(5, 11), thing.uniform(200, 500)
    swell = 1 + thing.uniform(0.4, 0.8) * np.sin(
        2 * np.pi * np.cumsum(turn * (1 + 0.02 * wander(rng, seconds, 1))) / RATE
    )
    air = band(noise(rng, seconds, slope=3.0), low, 6 * low) * swell
    total = air / air.std()
    for start in steady_starts(rng, seconds, 1 / turn, jitter=0.02):
        place(total, thing.uniform(1.0, 2.0) * modes(thing.uniform(100, 200), (1.0, 2.3), 0.02), start)
    return np.asarray(total)


def sander(thing: Random, rng: Random, seconds: float) -> Samples:
    """Sandpaper on wood: strokes of bright noise to and fro."""
    total, pace, tone = silence(seconds), thing.uniform(1.6, 3.5), thing.uniform(1500, 4000)
    start = rng.uniform(0.0, 0.3)
    while start < seconds:
        for share, weight in ((0.55, 1.0), (0.4, 0.7)):
            held = share / pace * rng.uniform(0.85, 1.15)
            stroke = band(noise(rng, held), tone * (0.6 if weight < 1 else 1.0), 3 * tone, order=1)
            place(total, weight * stroke * np.sin(np.pi * times(held) / held) ** 0.6, start)
            start += held
    return total


def music_box(thing: Random, rng: Random, seconds: float) -> Samples:
    """A music box: the same few plucked steel notes again and again, slowing a little."""
    total, root = silence(seconds), log_uniform(thing, 900, 1600)
    tune = thing.choice([0, 2, 4, 7, 9, 12, 14], 8)
    beat = thing.uniform(0.18, 0.32)
    for number, start in enumerate(np.arange(rng.uniform(0, 0.2), seconds, beat)):
        note = tune[(number + int(rng.integers(0, 2) if number == 0 else 0)) % 8]
        place(total, modes(root * 2 ** (note / 12), (1.0, 6.27), 0.18), start + rng.uniform(0, 0.01))
    return total


def marble(thing: Random, rng: Random, seconds: float) -> Samples:
    """A marble that rolls over a floor: a rumble with ticks at each gap between the boards."""
    gap, tone = thing.uniform(0.12, 0.35), thing.uniform(400, 1100)
    roll = resonate(noise(rng, seconds), tone, 2) * (1 + 0.4 * wander(rng, seconds, 6))
    total = roll / roll.std() * 0.4
    now, step = rng.uniform(0.0, gap), gap
    while now < seconds:
        place(total, 3 * modes(tone * 2.2, (1.0, 1.9, 3.3), 0.01), now)
        now += step
        step *= 1.01
    return np.asarray(total)


def spray_can(thing: Random, rng: Random, seconds: float) -> Samples:
    """A spray can: the ball that rattles when it is shaken, then a hiss."""
    total, ball, hiss = silence(seconds), thing.uniform(1800, 3500), thing.uniform(3000, 6000)
    start = rng.uniform(0.0, 0.3)
    while start < seconds:
        for _ in range(int(rng.integers(6, 12))):
            place(total, modes(ball, (1.0, 1.7), 0.01), start)
            start += thing.uniform(0.08, 0.1) * rng.uniform(0.9, 1.1)
        held = rng.uniform(0.5, 1.1)
        place(total, 0.4 * fade(highpass(noise(rng, held), hiss), 0.03), start + 0.15)
        start += held + rng.uniform(0.3, 0.6)
    return total


def mosquito(thing: Random, rng: Random, seconds: float) -> Samples:
    """A mosquito: a thin whine that wanders in pitch and comes nearer."""
    pitch = thing.uniform(380, 700) * (1 + 0.04 * wander(rng, seconds, 2))
    near = np.clip(0.5 + 0.6 * wander(rng, seconds, 0.7), 0.02, 1.0)
    return near * harmonics(pitch, seconds, 1 / np.arange(1, 14) ** 0.5)


def wiper(thing: Random, rng: Random, seconds: float) -> Samples:
    """A windscreen wiper: a rubber sweep that ends in a thump, to and fro."""
    total, pace, tone = silence(seconds), thing.uniform(0.9, 1.6), thing.uniform(500, 1200)
    for start in steady_starts(rng, seconds, 1 / pace, jitter=0.02):
        held = 0.6 / pace
        sweep = resonate(noise(rng, held), tone, 3) * np.sin(np.pi * times(held) / held)
        squeak = sine(tone * 2.5 * (1 + 0.2 * times(held)), held) * np.sin(np.pi * times(held) / held) ** 4
        place(total, sweep / (np.abs(sweep).max() + 1e-9) + 0.3 * squeak, start)
        place(total, 1.2 * lowpass(modes(110, (1.0, 2.1), 0.04), 400), start + held)
    return total


def typewriter(thing: Random, rng: Random, seconds: float) -> Samples:
    """A mechanical typewriter: heavy strikes, a bell at the end of the line, the carriage's ratchet."""
    total, strike, bell = silence(seconds), thing.uniform(900, 1700), thing.uniform(2200, 3400)
    start = rng.uniform(0.0, 0.3)
    while start < seconds:
        for _ in range(int(rng.integers(6, 14))):
            place(total, rng.uniform(0.6, 1.0) * modes(strike * rng.uniform(0.9, 1.1), (1.0, 2.4, 4.4), 0.014), start)
            start += rng.uniform(0.1, 0.22)
        place(total, 0.6 * modes(bell, (1.0, 2.76), 0.25), start)
        for _ in range(14):
            place(total, 0.3 * modes(strike * 1.6, (1.0, 2.1), 0.006), start + 0.25)
            start += 0.03
        start += 0.6
    return total


FAMILIES: Mapping[str, Recipe] = MappingProxyType(
    {
        "compressor": compressor,
        "contactor": contactor,
        "brake squeal": brake_squeal,
        "woodpecker": woodpecker,
        "finch": finch,
        "bubbling": bubbling,
        "wobbling fan": wobbling_fan,
        "sander": sander,
        "music box": music_box,
        "marble": marble,
        "spray can": spray_can,
        "mosquito": mosquito,
        "wiper": wiper,
        "typewriter": typewriter,
    }
)
"""Families that a method is chosen with."""
