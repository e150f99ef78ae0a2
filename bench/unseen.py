# ruff: noqa: PLR2004 - the figures of a recipe are the recipe
"""Sounds to test a method of teaching with: recipes that no training and no choice of the method has used.

Nothing here may be looked at while a method is chosen; see `families.py` for how a recipe works.
"""

from collections.abc import Mapping
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
    resonate,
    saw,
    silence,
    sine,
    steady_starts,
    times,
    wander,
)
from families import Recipe, modes


def gear_pump(thing: Random, rng: Random, seconds: float) -> Samples:
    """A pump that sings: the whine of its teeth, its strength pulsing with each turn."""
    turn, teeth = thing.uniform(18, 30), int(thing.integers(9, 15))
    phase = np.cumsum(turn * (1 + 0.005 * wander(rng, seconds, 1))) / RATE
    whine = sum(w * np.sin(2 * np.pi * n * teeth * phase) for n, w in enumerate(thing.uniform(0.2, 1.0, 6), 1))
    flow = band(noise(rng, seconds), 300, 1500, order=1)
    return np.asarray(whine * (1 + 0.5 * np.sin(2 * np.pi * phase)) + thing.uniform(0.2, 0.6) * flow)


def piston_pump(thing: Random, rng: Random, seconds: float) -> Samples:
    """A piston pump: a dull push, the click of the valve, a suck of air."""
    total, pace, valve = silence(seconds), thing.uniform(1.5, 3.5), thing.uniform(1200, 2600)
    for start in steady_starts(rng, seconds, 1 / pace, jitter=0.01):
        held = 0.35 / pace
        place(total, 1.5 * lowpass(modes(70, (1.0, 2.0, 3.1), 0.05), 500), start)
        place(total, 0.5 * modes(valve, (1.0, 2.2), 0.008), start + held)
        suck = band(noise(rng, held), 500, 2500, order=1) * np.hanning(length(held))
        place(total, 0.5 * suck, start + held)
    return total


def bearing_fault(thing: Random, rng: Random, seconds: float) -> Samples:
    """A damaged outer race: impacts at its rate that ring in the housing, louder once a turn."""
    rate, ring, turn = thing.uniform(70, 140), thing.uniform(2500, 5500), thing.uniform(10, 25)
    hits = silence(seconds)
    starts = np.arange(0, seconds, 1 / rate) + rng.normal(0, 0.02 / rate, len(np.arange(0, seconds, 1 / rate)))
    where = np.clip((starts * RATE).astype(int), 0, len(hits) - 1)
    hits[where] = 1 + 0.6 * np.sin(2 * np.pi * turn * starts)
    housing = resonate(hits, ring, 12)
    return np.asarray(housing / housing.std() + 0.5 * harmonics(turn, seconds, thing.uniform(0.1, 1.0, 5)))


def gear_mesh(thing: Random, rng: Random, seconds: float) -> Samples:
    """A gearbox under load: the mesh frequency and its multiples, with sidebands of the shaft."""
    mesh, shaft = thing.uniform(350, 800), thing.uniform(6, 14)
    phase = np.cumsum(mesh * (1 + 0.01 * wander(rng, seconds, 0.8))) / RATE
    sway = thing.uniform(0.3, 1.2) * np.sin(2 * np.pi * shaft * times(seconds))
    tones = sum(w * np.sin(2 * np.pi * n * phase + n * sway) for n, w in enumerate((1.0, 0.8, 0.5, 0.3), 1))
    return tones + 0.3 * lowpass(noise(rng, seconds), 1200)


def relay(thing: Random, rng: Random, seconds: float) -> Samples:
    """A relay that chatters: trains of double clicks, each with the bounce of its contact."""
    total, tone, gap = silence(seconds), thing.uniform(2800, 5500), thing.uniform(0.09, 0.25)
    bounce = thing.uniform(0.004, 0.012)
    start = rng.uniform(0.0, 0.4)
    while start < seconds:
        for _ in range(int(rng.integers(3, 9))):
            for number in range(4):
                place(total, 0.6**number * modes(tone, (1.0, 1.6), 0.003), start + number * bounce)
            place(total, 0.5 * modes(tone * 0.6, (1.0, 1.9), 0.004), start + gap / 2)
            start += gap * rng.uniform(0.95, 1.05)
        start += rng.uniform(0.3, 1.0)
    return total


def hinge(thing: Random, rng: Random, seconds: float) -> Samples:
    """A hinge that creaks: stick and slip, slow then fast, through the wood of the door."""
    total, wood, top = silence(seconds), thing.uniform(350, 900), thing.uniform(60, 160)
    start = rng.uniform(0.0, 0.5)
    while start < seconds:
        held = rng.uniform(0.7, 1.4)
        speed = 15 + top * np.sin(np.pi * times(held) / held) ** 2 * (1 + 0.2 * wander(rng, held, 5))
        slips = np.diff(np.floor(np.cumsum(speed) / RATE), prepend=0.0)
        place(total, fade(resonate(slips, wood, 6) + 0.7 * resonate(slips, wood * 2.6, 8), 0.02), start)
        start += held + rng.uniform(0.2, 0.9)
    return total


def cuckoo(thing: Random, rng: Random, seconds: float) -> Samples:
    """A cuckoo: two soft notes, the second one a third lower."""
    total, pitch, ratio = silence(seconds), thing.uniform(600, 780), thing.uniform(0.78, 0.85)
    start = rng.uniform(0.0, 0.6)
    while start < seconds:
        for note, at in ((pitch, 0.0), (pitch * ratio, 0.33)):
            held = 0.24
            tone = harmonics(note * (1 - 0.03 * times(held) / held), held, (1.0, 0.12, 0.05))
            place(total, tone * np.hanning(length(held)) ** 0.6, start + at)
        start += rng.uniform(1.0, 1.5)
    return total


def owl(thing: Random, rng: Random, seconds: float) -> Samples:
    """A tawny owl: one long hoot, then a quavering one."""
    total, pitch, quaver = silence(seconds), thing.uniform(330, 480), thing.uniform(10, 18)
    start = rng.uniform(0.0, 0.8)
    while start < seconds:
        for held, shake, at in ((0.5, 0.0, 0.0), (1.1, 0.6, 0.9)):
            swell = np.hanning(length(held)) ** 0.5 * (1 - shake * (np.sin(2 * np.pi * quaver * times(held)) > 0))
            hoot = harmonics(pitch * (1 + 0.02 * wander(rng, held, 4)), held, (1.0, 0.25, 0.08))
            place(total, lowpass(hoot * swell, 1500), start + at)
        start += rng.uniform(2.2, 3.2)
    return total


def warbler(thing: Random, rng: Random, seconds: float) -> Samples:
    """A warbler's grammar: motifs A, B and C of its own in the order A A B A C, over and over."""
    total = silence(seconds)
    motifs = [[(log_uniform(thing, 2000, 7500), thing.uniform(0.02, 0.09)) for _ in range(4)] for _ in range(3)]
    start = rng.uniform(0.0, 0.4)
    while start < seconds:
        for motif in (0, 0, 1, 0, 2):
            for pitch, held in motifs[motif]:
                place(total, sine(pitch * rng.uniform(0.99, 1.01), held) * np.hanning(length(held)), start)
                start += held + 0.015
            start += 0.05
        start += rng.uniform(0.2, 0.8)
    return total


def steam_valve(thing: Random, rng: Random, seconds: float) -> Samples:
    """A steam valve: sudden jets of hiss with a whistling edge, each dying away."""
    total, edge = silence(seconds), thing.uniform(2500, 6000)
    length_of = thing.uniform(0.3, 0.9)
    start = rng.uniform(0.0, 0.5)
    while start < seconds:
        held = length_of * rng.uniform(0.8, 1.2)
        jet = highpass(noise(rng, held), 1500) + 1.2 * resonate(noise(rng, held), edge, 25)
        place(total, jet * decay(held, held / 2, attack=0.01), start)
        start += held + rng.uniform(0.2, 0.7)
    return total


def blade_fan(thing: Random, rng: Random, seconds: float) -> Samples:
    """A large fan: tones of its passing blades over a broad rush of air."""
    blade, rush = thing.uniform(60, 160), thing.uniform(0.6, 1.4)
    tones = harmonics(blade * (1 + 0.004 * wander(rng, seconds, 1)), seconds, 1 / np.arange(1, 12) ** 0.8)
    air = band(noise(rng, seconds, slope=2.0), 150, 4000, order=1)
    return np.asarray(tones / tones.std() + rush * air / air.std())


def handsaw(thing: Random, rng: Random, seconds: float) -> Samples:
    """A hand saw: teeth that run past at a falling rate, push and pull."""
    total, pace, teeth = silence(seconds), thing.uniform(1.0, 2.0), thing.uniform(90, 220)
    board = thing.uniform(500, 1300)
    start = rng.uniform(0.0, 0.3)
    while start < seconds:
        for weight in (1.0, 0.5):
            held = 0.45 / pace * rng.uniform(0.9, 1.1)
            run = np.sin(np.pi * times(held) / held)
            bite = (np.sin(2 * np.pi * np.cumsum(teeth * (0.4 + run)) / RATE) > 0.4) * noise(rng, held)
            place(total, weight * resonate(bite * run, board, 2), start)
            start += held + 0.03
    return total


def anvil(thing: Random, rng: Random, seconds: float) -> Samples:
    """A hammer on an anvil: a hard blow that rings, and a lighter one that bounces."""
    total, tone, pace = silence(seconds), thing.uniform(1500, 3200), thing.uniform(0.8, 1.5)
    for start in steady_starts(rng, seconds, 1 / pace, jitter=0.06):
        blow = modes(tone, (1.0, 1.51, 2.33, 3.2), 0.3)
        place(total, rng.uniform(0.8, 1.0) * blow, start)
        place(total, 0.3 * blow, start + 0.16)
    return total


def ratchet(thing: Random, rng: Random, seconds: float) -> Samples:
    """A ratchet spanner: quick clicks on the way back, silence on the way forth."""
    total, tone, rate = silence(seconds), thing.uniform(2000, 4200), thing.uniform(25, 50)
    start = rng.uniform(0.0, 0.4)
    while start < seconds:
        for _ in range(int(rng.integers(7, 14))):
            place(total, rng.uniform(0.7, 1.0) * modes(tone, (1.0, 1.33, 2.9), 0.005), start)
            start += 1 / rate * rng.uniform(0.9, 1.1)
        start += rng.uniform(0.25, 0.5)
    return total


def squeaky_toy(thing: Random, rng: Random, seconds: float) -> Samples:
    """A rubber toy: a reed that is squeezed, rising as it begins and wheezing as it fills."""
    total, pitch = silence(seconds), log_uniform(thing, 900, 2200)
    start = rng.uniform(0.0, 0.4)
    while start < seconds:
        held = rng.uniform(0.12, 0.35)
        glide = pitch * (0.7 + 0.35 * np.sin(np.pi * times(held) / held) ** 0.4)
        place(total, fade(saw(glide, held, partials=8), 0.01), start)
        place(total, 0.15 * fade(band(noise(rng, held), 2000, 6000), 0.02), start + held + 0.02)
        start += 2 * held + rng.uniform(0.05, 0.6)
    return total


def spinning_coin(thing: Random, rng: Random, seconds: float) -> Samples:
    """A coin that spins down on a table: ringing taps, ever faster, and again."""
    total, tone, turn = silence(seconds), thing.uniform(3500, 6500), thing.uniform(8, 14)
    start = rng.uniform(0.0, 0.3)
    while start < seconds:
        step = 1 / turn
        while step > 0.008 and start < seconds:
            place(total, (0.3 + step * turn) * modes(tone, (1.0, 1.56), 0.03), start)
            start += step * rng.uniform(0.97, 1.03)
            step *= 0.965
        start += rng.uniform(0.5, 1.0)
    return total


def bouncing_ball(thing: Random, rng: Random, seconds: float) -> Samples:
    """A table-tennis ball that is dropped: hollow taps at falling distances."""
    total, tone, spring = silence(seconds), thing.uniform(700, 1300), thing.uniform(0.78, 0.88)
    start = rng.uniform(0.0, 0.3)
    while start < seconds:
        step, loud = rng.uniform(0.35, 0.5), 1.0
        while step > 0.03 and start < seconds:
            place(total, loud * modes(tone, (1.0, 2.9), 0.01), start)
            start, step, loud = start + step, step * spring, loud * spring**1.2
        start += rng.uniform(0.3, 0.8)
    return total


def kettle(thing: Random, rng: Random, seconds: float) -> Samples:
    """A kettle about to boil: a growing rumble of bubbles and a whistle that climbs."""
    pitch, low = thing.uniform(1500, 2600), thing.uniform(200, 450)
    rise = np.clip(times(seconds) / seconds + rng.uniform(-0.2, 0.2), 0.05, 1.0)
    whistle = sine(pitch * (0.7 + 0.3 * rise), seconds) * rise**2 + 0.2 * resonate(noise(rng, seconds), pitch, 20)
    rumble = band(noise(rng, seconds), low, 3 * low) * (1 + 0.5 * wander(rng, seconds, 15))
    return whistle + 0.5 * rumble


def zipper(thing: Random, rng: Random, seconds: float) -> Samples:
    """A zip: a burst of teeth whose rate and brightness rise, up and down."""
    total, low, high = silence(seconds), thing.uniform(60, 120), thing.uniform(300, 700)
    start = rng.uniform(0.0, 0.4)
    while start < seconds:
        held = rng.uniform(0.3, 0.7)
        rate = low + (high - low) * (times(held) / held if rng.random() < 0.6 else 1 - times(held) / held)
        teeth = np.diff(np.floor(np.cumsum(rate) / RATE), prepend=0.0) * rng.uniform(0.5, 1.0, length(held))
        place(total, fade(highpass(resonate(teeth, 5000, 2), 1500), 0.02), start)
        start += held + rng.uniform(0.2, 0.8)
    return total


def sewing_machine(thing: Random, rng: Random, seconds: float) -> Samples:
    """A sewing machine: bursts of stitches over the drone of its motor."""
    total, rate, motor = silence(seconds), thing.uniform(9, 16), thing.uniform(120, 260)
    start = rng.uniform(0.0, 0.3)
    while start < seconds:
        stitches = int(rng.integers(8, 25))
        held = stitches / rate
        drone = harmonics(motor * (1 + 0.03 * wander(rng, held, 3)), held, 1 / np.arange(1, 15))
        place(total, 0.4 * fade(drone, 0.05), start)
        for number in range(stitches):
            place(total, modes(450, (1.0, 3.4, 6.1), 0.012), start + number / rate)
        start += held + rng.uniform(0.3, 0.8)
    return total


def dot_matrix(thing: Random, rng: Random, seconds: float) -> Samples:
    """A dot-matrix printer: a buzz of needles for each line, the whirr of the paper."""
    total, needle, line = silence(seconds), thing.uniform(500, 1100), thing.uniform(0.5, 1.1)
    start = rng.uniform(0.0, 0.3)
    while start < seconds:
        held = line * rng.uniform(0.5, 1.0)
        keyed = np.repeat(rng.random(int(held * 30) + 1) > 0.3, RATE // 30)[: length(held)]
        buzz = harmonics(needle, held, 1 / np.arange(1, 16) ** 0.4)[: len(keyed)] * keyed
        place(total, buzz, start)
        place(total, 0.6 * fade(saw(180 * (1 + times(0.12)), 0.12, partials=10), 0.01), start + held + 0.05)
        start += held + 0.22
    return total


def sliding_gate(thing: Random, rng: Random, seconds: float) -> Samples:
    """A gate on its rail: rollers that rumble and squeal, and a clank at its stop."""
    total, rumble, squeal = silence(seconds), thing.uniform(90, 220), thing.uniform(1100, 2300)
    start = rng.uniform(-0.5, 0.3)
    while start < seconds:
        held = rng.uniform(1.5, 2.2)
        roll = resonate(noise(rng, held), rumble, 2) * (1 + 0.5 * np.sign(np.sin(2 * np.pi * 7 * times(held))))
        cry = sine(squeal * (1 + 0.05 * wander(rng, held, 2)), held) * np.clip(wander(rng, held, 3), 0, 1)
        place(total, fade(roll / roll.std() + 0.6 * cry, 0.1), start)
        place(total, 4 * modes(squeal * 0.5, (1.0, 1.7, 2.6, 3.9), 0.15), start + held)
        start += held + rng.uniform(0.6, 1.0)
    return total


def lift_motor(thing: Random, rng: Random, seconds: float) -> Samples:
    """A lift's drive: a whine that climbs in steps, stays and falls."""
    base, top = thing.uniform(180, 320), thing.uniform(3.0, 5.0)
    where = (times(seconds) / thing.uniform(3.5, 5.0) + rng.uniform()) % 1.0
    shape = np.clip(np.minimum(where, 1 - where) * 4, 0.0, 1.0)
    pitch = base * (1 + (top - 1) * np.round(shape * 8) / 8)
    return harmonics(lowpass(pitch - base, 12.0) + base, seconds, thing.uniform(0.2, 1.0, 9))


FAMILIES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.__name__.replace("_", " "): recipe
        for recipe in (
            gear_pump,
            piston_pump,
            bearing_fault,
            gear_mesh,
            relay,
            hinge,
            cuckoo,
            owl,
            warbler,
            steam_valve,
            blade_fan,
            handsaw,
            anvil,
            ratchet,
            squeaky_toy,
            spinning_coin,
            bouncing_ball,
            kettle,
            zipper,
            sewing_machine,
            dot_matrix,
            sliding_gate,
            lift_motor,
        )
    }
)
"""Families that a method is tested with; none of them takes part in choosing it."""
