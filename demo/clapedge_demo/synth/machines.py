"""Sounds of machines and of things that are struck, and imitations of those among the recorded classes."""

import numpy as np

from clapedge_demo.synth.parts import (
    RATE,
    Random,
    Samples,
    band,
    decay,
    harmonics,
    highpass,
    impulses,
    log_uniform,
    lowpass,
    noise,
    place,
    poisson_starts,
    resonate,
    saw,
    silence,
    sine,
    steady_starts,
    times,
    wander,
)


def mains_hum(rng: Random, seconds: float) -> Samples:
    """The hum of a transformer: 50 or 60 Hz and its harmonics, perfectly steady."""
    base = float(rng.choice([50.0, 60.0])) * rng.uniform(0.998, 1.002)
    weights = np.zeros(16)
    weights[:8] = rng.uniform(0.1, 1.0, 8) / np.arange(1, 9) ** 0.5
    weights[1::2] *= 2.0
    return harmonics(base, seconds, weights) + 0.01 * noise(rng, seconds, slope=3.0)


def engine_idle(rng: Random, seconds: float) -> Samples:
    """An idling engine: uneven thumps of combustion, 15 to 40 a second, over mechanical noise."""
    rate = rng.uniform(14, 38)
    wobble = 1 + 0.03 * wander(rng, seconds, 2)
    phase = np.cumsum(rate * wobble) / RATE
    pulse = np.exp(-((phase % 1.0) * rng.uniform(5, 12))) * (1 + 0.25 * np.sin(np.pi * phase))
    body = lowpass(pulse - pulse.mean(), rng.uniform(120, 300)) + 0.3 * resonate(pulse, rng.uniform(90, 200), 3)
    clatter = band(noise(rng, seconds), 500, 3000, order=1) * pulse
    return body / body.std() + rng.uniform(0.05, 0.25) * clatter


def drill(rng: Random, seconds: float) -> Samples:
    """An electric drill: a high whine of the motor with its harmonics, pressed now and then."""
    pitch = rng.uniform(350, 900)
    load = np.clip(1 + 0.12 * wander(rng, seconds, 0.8), 0.6, 1.3)
    start = np.minimum(1.0, times(seconds) / rng.uniform(0.05, 0.6)) ** 0.5
    whine = harmonics(pitch * load * start, seconds, 1 / np.arange(1, 16) ** 0.5)
    grit = highpass(noise(rng, seconds), 2000) * (1 + 0.5 * np.sin(2 * np.pi * rng.uniform(25, 60) * times(seconds)))
    return whine / whine.std() + rng.uniform(0.2, 0.6) * grit


def knocks(rng: Random, seconds: float) -> Samples:
    """Knuckles on a wooden door, three or four at a time."""
    total = silence(seconds)
    wood, ring = rng.uniform(120, 350), rng.uniform(0.015, 0.04)
    start = rng.uniform(0.0, 0.5)
    while start < seconds:
        gap = rng.uniform(0.14, 0.3)
        for _ in range(rng.integers(2, 6)):
            hit = silence(0.2)
            for ratio, weight in ((1.0, 1.0), (2.3, 0.6), (4.1, 0.3)):
                hit += weight * sine(wood * ratio, 0.2) * decay(0.2, ring / ratio**0.5)
            click = band(noise(rng, 0.02), 800, 4000, order=1) * decay(0.02, 0.003)
            place(total, rng.uniform(0.7, 1.0) * hit, start)
            place(total, 0.35 * click, start)
            start += gap * rng.uniform(0.92, 1.08)
        start += rng.uniform(0.5, 1.4)
    return total


def geiger(rng: Random, seconds: float) -> Samples:
    """A Geiger counter: identical sharp clicks that come at random."""
    total = silence(seconds)
    click = sine(rng.uniform(2000, 4500), 0.006) * decay(0.006, rng.uniform(0.0006, 0.0015), attack=0.0001)
    for start in poisson_starts(rng, seconds, log_uniform(rng, 8, 45)):
        place(total, click, start)
    return total


def keyboard(rng: Random, seconds: float) -> Samples:
    """Typing: each key a click down, a duller one up, in hurried groups."""
    total = silence(seconds)
    start, pace = rng.uniform(0.0, 0.3), rng.uniform(0.09, 0.2)
    case = rng.uniform(150, 400)
    while start < seconds:
        down = band(noise(rng, 0.03), 1500, 7000, order=1) * decay(0.03, rng.uniform(0.002, 0.005))
        up = band(noise(rng, 0.02), 1000, 5000, order=1) * decay(0.02, 0.002)
        thump = sine(case * rng.uniform(0.8, 1.2), 0.06) * decay(0.06, 0.012)
        place(total, rng.uniform(0.6, 1.0) * down, start)
        place(total, 0.35 * thump, start)
        place(total, 0.4 * up, start + rng.uniform(0.05, 0.09))
        start += pace * rng.gamma(4.0, 0.25) + (rng.uniform(0.3, 0.9) if rng.random() < 0.06 else 0.0)
    return total


def glass_break(rng: Random, seconds: float) -> Samples:
    """A pane that shatters: a hard burst, then a shower of ringing splinters."""
    total = silence(seconds)
    for start in steady_starts(rng, seconds, rng.uniform(1.5, 3.0)):
        place(total, 1.5 * highpass(noise(rng, 0.3), 1500) * decay(0.3, 0.04, attack=0.001), start)
        for _ in range(rng.integers(25, 60)):
            late = rng.exponential(0.18)
            pitch, ring = log_uniform(rng, 2500, 11_000), rng.uniform(0.01, 0.09)
            place(total, rng.uniform(0.1, 0.6) * np.exp(-late * 2) * sine(pitch, 0.4) * decay(0.4, ring), start + late)
    return total


def clock_tick(rng: Random, seconds: float) -> Samples:
    """A clock: dry ticks at an even pace, sometimes tick and tock by turns."""
    total = silence(seconds)
    period = float(rng.choice([1.0, 0.5, 0.25, 0.4, 0.2])) * rng.uniform(0.97, 1.03)
    tone, ring = log_uniform(rng, 1200, 6000), rng.uniform(0.002, 0.012)
    tock = rng.uniform(0.7, 1.0)
    body = rng.uniform(200, 900)
    for number, start in enumerate(steady_starts(rng, seconds, period)):
        pitch = tone * (tock if number % 2 else 1.0)
        tick = sine(pitch, 0.06) * decay(0.06, ring, attack=0.0003) + 0.5 * noise(rng, 0.06) * decay(0.06, 0.0015)
        place(total, tick + 0.2 * sine(body, 0.06) * decay(0.06, 0.01), start)
        if rng.random() < 0.5:
            place(total, 0.3 * tick, start + rng.uniform(0.02, 0.04))
    return total


def chainsaw(rng: Random, seconds: float) -> Samples:
    """A two-stroke engine that is revved: a harsh buzz whose pitch surges, over broad noise."""
    revs = rng.uniform(60, 130) * np.clip(1 + 0.4 * wander(rng, seconds, 1.2), 0.5, 2.0)
    buzz = saw(revs, seconds, partials=60)
    buzz = buzz + 0.8 * resonate(buzz, rng.uniform(500, 1200), 2) + 0.6 * resonate(buzz, rng.uniform(2000, 3500), 2)
    rasp = band(noise(rng, seconds), 800, 8000, order=1) * (1 + 0.6 * np.sign(buzz))
    return buzz / buzz.std() + rng.uniform(0.3, 0.9) * rasp


def helicopter(rng: Random, seconds: float) -> Samples:
    """Rotor blades: low chops, 8 to 22 a second, of filtered noise and a thump, over turbine noise."""
    rate = rng.uniform(8, 22)
    phase = (np.cumsum(rate * (1 + 0.01 * wander(rng, seconds, 1))) / RATE) % 1.0
    chop = np.exp(-phase * rng.uniform(3, 8)) - 0.1
    wash = lowpass(noise(rng, seconds, slope=3.0), rng.uniform(500, 2500)) * (0.3 + chop)
    thump = lowpass(chop - chop.mean(), rng.uniform(60, 160))
    loud = np.clip(1 + 0.3 * wander(rng, seconds, 0.5), 0.3, 2.0)
    turbine = sine(rng.uniform(1500, 5000), seconds) * rng.uniform(0.0, 0.03)
    return loud * (wash / wash.std() + rng.uniform(0.3, 1.5) * thump / thump.std() + turbine)


def fire(rng: Random, seconds: float) -> Samples:
    """A fire: crackles and pops of every size over a soft roar."""
    crackle = np.zeros(len(times(seconds)))
    for low, high, rate in ((1500, 9000, rng.uniform(10, 60)), (600, 4000, rng.uniform(2, 10)), (3000, 14_000, 40)):
        crackle += band(impulses(rng, seconds, rate), low, high, order=1)
    pops = silence(seconds)
    for start in poisson_starts(rng, seconds, rng.uniform(1, 6)):
        pop = noise(rng, 0.05) * decay(0.05, rng.uniform(0.002, 0.01), attack=0.0005)
        place(pops, rng.exponential(1.0) * pop, start)
    roar = lowpass(noise(rng, seconds, slope=6.0), rng.uniform(200, 800)) * (1 + 0.3 * wander(rng, seconds, 3))
    return crackle / crackle.std() + 0.5 * pops / pops.std() + rng.uniform(0.1, 0.9) * roar / roar.std()
