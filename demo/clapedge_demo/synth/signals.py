"""Signals made by devices to be noticed: alarms, sirens, telephones, bells, tones."""

import numpy as np

from clapedge_demo.synth.parts import (
    Random,
    Samples,
    band,
    decay,
    fade,
    harmonics,
    length,
    log_uniform,
    lowpass,
    noise,
    place,
    saw,
    silence,
    sine,
    square,
    steady_starts,
    times,
    wander,
)

DTMF_ROWS = (697.0, 770.0, 852.0, 941.0)
DTMF_COLUMNS = (1209.0, 1336.0, 1477.0, 1633.0)
"""Hz of the keys of a telephone (ITU-T Q.23)."""

BELL_PARTIALS = ((0.5, 1.0, 1.0), (1.0, 0.9, 0.7), (1.19, 0.8, 0.5), (1.5, 0.5, 0.4), (2.0, 0.8, 0.3), (2.74, 0.4, 0.2))
"""Partials of a church bell: ratio to the prime, weight, relative decay (hum, prime, tierce, quint, nominal …)."""

MORSE = ("-.-.", ".-..", ".-", ".--.", "...", "---", "...", ".", "-", "..-.", "--.", "-..-")
"""Characters that are keyed at random."""


def smoke_alarm(rng: Random, seconds: float) -> Samples:
    """Three piercing beeps and a rest (ISO 8201), or beeps without end, near 3 kHz."""
    total = silence(seconds)
    pitch = rng.uniform(2700, 3500)
    on = rng.uniform(0.12, 0.5)
    pattern = on + rng.uniform(0.08, 0.5)
    beeps = int(rng.choice([3, 3, 3, 4, 100]))
    rest = rng.uniform(0.8, 1.5)
    start = rng.uniform(-1.0, 0.4)
    while start < seconds:
        for number in range(beeps):
            beep = fade(sine(pitch, on) + 0.2 * sine(2 * pitch, on) + 0.1 * sine(3 * pitch, on), 0.004)
            place(total, beep, start + number * pattern)
            if start + number * pattern > seconds:
                break
        start += beeps * pattern + rest
    return total


def siren(rng: Random, seconds: float) -> Samples:
    """The siren of an emergency vehicle: a slow wail, a fast yelp, or two tones in turn."""
    now = times(seconds)
    low, high = rng.uniform(450, 700), rng.uniform(1100, 1700)
    style = rng.integers(3)
    if style == 2:
        low, high = rng.uniform(400, 500), rng.uniform(550, 700)
        swing = np.sign(np.sin(2 * np.pi * rng.uniform(0.5, 1.0) * now + rng.uniform(0, 6)))
        swing = lowpass(swing, 30.0) * 0.5 + 0.5
    else:
        rate = rng.uniform(0.15, 0.45) if style == 0 else rng.uniform(2.5, 4.5)
        swing = 0.5 - 0.5 * np.cos(2 * np.pi * rate * now + rng.uniform(0, 6))
    pitch = (low + (high - low) * swing) * rng.uniform(0.9, 1.1)
    return band(saw(pitch, seconds, partials=8), 300, 5000, order=1)


def dtmf(rng: Random, seconds: float) -> Samples:
    """Keys of a telephone pressed one after the other."""
    total = silence(seconds)
    start = rng.uniform(0.0, 0.4)
    on, off = rng.uniform(0.06, 0.25), rng.uniform(0.05, 0.3)
    while start < seconds:
        pair = sine(rng.choice(DTMF_ROWS), on) + sine(rng.choice(DTMF_COLUMNS[:3]), on)
        place(total, fade(pair, 0.005), start)
        start += on + off * rng.uniform(0.8, 1.3)
    return total


def doorbell(rng: Random, seconds: float) -> Samples:
    """Ding-dong: two struck tones, the second one lower; sometimes three or four as in a lift."""
    total = silence(seconds)
    first = log_uniform(rng, 500, 900)
    tune = ((1.0, 0.8), (1.0, 0.75), (1.0, 0.667), (1.0, 1.25, 1.5, 2.0), (1.5, 1.25, 1.0))[rng.integers(5)]
    gap = rng.uniform(0.35, 0.8)
    start = rng.uniform(0.0, 0.6)
    while start < seconds:
        for number, ratio in enumerate(tune):
            note = first * ratio
            ring = harmonics(note, 2.0, (1.0, 0.3, 0.15, 0.1)) * decay(2.0, rng.uniform(0.35, 0.7))
            place(total, ring, start + number * gap)
        start += len(tune) * gap + rng.uniform(0.9, 2.0)
    return total


def car_horn(rng: Random, seconds: float) -> Samples:
    """One or two rough tones a third apart, honked briefly or held."""
    total = silence(seconds)
    pitch = rng.uniform(330, 480)
    start = rng.uniform(0.0, 0.4)
    while start < seconds:
        held = rng.choice([rng.uniform(0.15, 0.4), rng.uniform(0.6, 1.6)])
        tone = saw(pitch, held, partials=24) + saw(pitch * rng.uniform(1.18, 1.27), held, partials=24)
        place(total, fade(band(tone, 350, 4500, order=1), 0.02), start)
        start += held + rng.uniform(0.1, 0.9)
    return total


def morse_code(rng: Random, seconds: float) -> Samples:
    """Dots and dashes of one tone."""
    total = silence(seconds)
    pitch, dot = rng.uniform(500, 1000), rng.uniform(0.045, 0.09)
    start = rng.uniform(0.0, 0.3)
    while start < seconds:
        for mark in rng.choice(MORSE):
            on = dot if mark == "." else 3 * dot
            place(total, fade(sine(pitch, on), 0.004), start)
            start += on + dot
        start += 2 * dot * rng.choice([1, 1, 1, 3])
    return total


def laser(rng: Random, seconds: float) -> Samples:
    """Zaps of a toy ray gun: quick falling sweeps."""
    total = silence(seconds)
    start = rng.uniform(0.0, 0.3)
    top, held = rng.uniform(3000, 9000), rng.uniform(0.12, 0.4)
    while start < seconds:
        now = times(held)
        pitch = rng.uniform(80, 300) + top * np.exp(-now / (held * rng.uniform(0.18, 0.35)))
        place(total, fade(square(pitch, held, partials=3) * decay(held, held), 0.004), start)
        start += held + rng.uniform(0.05, 0.6)
    return total


def church_bell(rng: Random, seconds: float) -> Samples:
    """A large bell, struck slowly."""
    total = silence(seconds)
    prime, ring = log_uniform(rng, 180, 600), rng.uniform(0.9, 2.2)
    for start in steady_starts(rng, seconds, rng.uniform(1.0, 2.4)) - rng.uniform(0.0, 1.0):
        stroke = silence(4.0)
        for ratio, weight, relative in BELL_PARTIALS:
            pitch = prime * ratio * rng.uniform(0.995, 1.005)
            stroke += weight * sine(pitch, 4.0) * decay(4.0, ring * relative * 1.5, attack=0.001)
        place(total, stroke + 0.3 * noise(rng, 4.0) * decay(4.0, 0.01), start)
    return total


def telephone(rng: Random, seconds: float) -> Samples:
    """An old telephone: a clapper between two small bells, ringing and resting."""
    on, off = rng.uniform(0.8, 2.0), rng.uniform(0.6, 2.0)
    strokes = rng.uniform(18, 28)
    pitches = rng.uniform(1000, 1500) * np.array([1.0, rng.uniform(1.1, 1.3)])
    total = silence(seconds)
    start = rng.uniform(-0.5, 0.5)
    while start < seconds:
        for number in range(int(on * strokes)):
            pitch = pitches[number % 2]
            stroke = sum(w * sine(pitch * r, 0.25) for r, w in ((1.0, 1.0), (2.7, 0.6), (4.9, 0.35), (1.6, 0.4)))
            place(total, stroke * decay(0.25, 0.07, attack=0.0005), start + number / strokes)
        start += on + off
    return total


def dial_tone(rng: Random, seconds: float) -> Samples:
    """The steady hum of a free telephone line: two tones together, or the European 425 Hz, with slow or no pulsing."""
    first, second = ((350.0, 440.0), (400.0, 450.0), (425.0, 425.0))[rng.integers(3)]
    detune = rng.uniform(0.98, 1.02)
    tone = sine(first * detune, seconds) + sine(second * detune, seconds)
    return tone + 0.02 * band(noise(rng, seconds), 300, 3400)


def steady_tone(rng: Random, seconds: float) -> Samples:
    """A test tone: one sine that never changes."""
    return sine(log_uniform(rng, 700, 6000), seconds)


def music(rng: Random, seconds: float) -> Samples:
    """A simple tune over chords, played by plucked or organ-like voices."""
    total = silence(seconds)
    root = log_uniform(rng, 180, 420)
    scale = (0, 2, 4, 5, 7, 9, 11, 12) if rng.random() < 0.5 else (0, 2, 3, 5, 7, 8, 10, 12)
    beat = rng.uniform(0.18, 0.4)
    sustain, weights = rng.uniform(0.15, 0.8), rng.dirichlet(np.ones(6)) * np.array([3, 2, 1, 1, 0.5, 0.5])
    for number, start in enumerate(steady_starts(rng, seconds, beat)):
        pitch = root * 2 ** (rng.choice(scale) / 12)
        held = 1.2
        place(total, harmonics(pitch, held, weights) * decay(held, sustain, attack=0.01), start)
        if number % 4 == 0:
            base = root / 2 * 2 ** (scale[rng.choice([0, 3, 4, 5])] / 12)
            for third in (1.0, 1.26, 1.5):
                chord = harmonics(base * third, 4 * beat, weights) * decay(4 * beat, 1.2, attack=0.02)
                place(total, fade(0.5 * chord, 0.02), start)
    return total


def reversing_beeper(rng: Random, seconds: float) -> Samples:
    """A lorry in reverse: long beeps near 1.2 kHz, as long as the rests between them, over its engine."""
    total = silence(seconds)
    pitch, on = rng.uniform(950, 1400), rng.uniform(0.4, 0.55)
    for start in steady_starts(rng, seconds + 1, 2 * on) - 1.0:
        place(total, fade(square(pitch, on, partials=3), 0.01), start)
    rumble = lowpass(noise(rng, seconds, slope=6.0), 150) * (1 + 0.2 * wander(rng, seconds, 3))
    return total + rng.uniform(0.02, 0.2) * rumble[: length(seconds)]
