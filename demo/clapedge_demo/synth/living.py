"""Sounds of animals and people, and imitations of those among the recorded classes."""

import numpy as np

from clapedge_demo.synth.parts import (
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


def bird(rng: Random, seconds: float) -> Samples:
    """A small bird: phrases of short whistled sweeps between 2 and 7 kHz."""
    total = silence(seconds)
    centre = log_uniform(rng, 2200, 5500)
    start = rng.uniform(0.0, 0.4)
    while start < seconds:
        held, gap = rng.uniform(0.04, 0.14), rng.uniform(0.03, 0.12)
        rise, bend = rng.uniform(-0.35, 0.35), rng.uniform(-0.25, 0.25)
        for _ in range(rng.integers(2, 9)):
            phase = times(held) / held
            pitch = centre * (1 + rise * (phase - 0.5) + bend * np.sin(np.pi * phase))
            place(total, sine(pitch, held) * np.sin(np.pi * phase) ** 0.7, start)
            start += held + gap
        start += rng.uniform(0.15, 0.9)
        centre *= rng.uniform(0.9, 1.1)
    return total


def crickets(rng: Random, seconds: float) -> Samples:
    """Crickets at night: bursts of pulses of one high pitch, without end."""
    total = silence(seconds)
    for voice in range(rng.integers(1, 4)):
        pitch, pulse = rng.uniform(3800, 5500), rng.uniform(0.012, 0.02)
        pulses, rest = int(rng.integers(3, 7)), rng.uniform(0.15, 0.5)
        chirp = silence(pulses * pulse * 1.6)
        for number in range(pulses):
            place(chirp, sine(pitch, pulse) * np.hanning(length(pulse)), number * pulse * 1.6)
        for start in steady_starts(rng, seconds, pulses * pulse * 1.6 + rest, jitter=0.03):
            place(total, chirp * rng.uniform(0.8, 1.0) / (1 + voice), start)
    return total


def frog(rng: Random, seconds: float) -> Samples:
    """Frogs: low, rattling croaks."""
    total = silence(seconds)
    pulses, formant = rng.uniform(25, 60), rng.uniform(500, 1300)
    start = rng.uniform(0.0, 0.5)
    while start < seconds:
        held = rng.uniform(0.15, 0.5)
        train = silence(held)
        for tick in np.arange(0, held, 1 / pulses):
            place(train, sine(formant, 0.03) * decay(0.03, 0.006), tick)
        place(total, fade(train + 0.6 * resonate(train, formant * 2.1, 4), 0.03), start)
        start += held + rng.uniform(0.15, 0.9)
    return total


def whistle(rng: Random, seconds: float) -> Samples:
    """A person who whistles a tune: a gliding sine with vibrato and a little breath."""
    knots = max(4, int(seconds * rng.uniform(1.5, 4.0)))
    notes = log_uniform(rng, 900, 1500) * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 12], knots) / 12)
    place_of_note = np.minimum((times(seconds) / seconds * knots).astype(int), knots - 1)
    pitch = lowpass(notes[place_of_note] - notes[0], 8.0) + notes[0]
    vibrato = 1 + rng.uniform(0.002, 0.012) * np.sin(2 * np.pi * rng.uniform(4, 7) * times(seconds))
    loud = np.clip(0.7 + 0.5 * wander(rng, seconds, 2), 0.0, 1.0)
    tone = sine(pitch * vibrato, seconds)
    return loud * (tone + 0.03 * band(noise(rng, seconds), 1000, 4000))


def heartbeat(rng: Random, seconds: float) -> Samples:
    """A heart: two dull thumps, lub-dub, every second or so."""
    total = silence(seconds)
    period = 60 / rng.uniform(50, 120)
    first, second = rng.uniform(45, 70), rng.uniform(60, 95)
    for start in steady_starts(rng, seconds + period, period, jitter=0.02) - period:
        lub = sine(first, 0.16) * decay(0.16, 0.045, attack=0.015)
        dub = sine(second, 0.12) * decay(0.12, 0.03, attack=0.01)
        place(total, lub, start)
        place(total, 0.7 * dub, start + 0.32 * period)
    return lowpass(total, rng.uniform(150, 400)) + 0.002 * lowpass(noise(rng, seconds), 300)


def applause(rng: Random, seconds: float) -> Samples:
    """Many hands that clap, each at a pace of its own."""
    total = silence(seconds)
    for _ in range(rng.integers(12, 45)):
        period, tone = rng.uniform(0.18, 0.34), rng.uniform(800, 2400)
        clap = band(noise(rng, 0.03), tone * 0.6, tone * 1.8, order=1) * decay(0.03, rng.uniform(0.004, 0.009))
        for start in steady_starts(rng, seconds, period, jitter=0.08):
            place(total, clap * rng.uniform(0.4, 1.0), start)
    return total


def footsteps(rng: Random, seconds: float) -> Samples:
    """Steps on a hard floor: a dull heel and a short scrape, at walking pace."""
    total = silence(seconds)
    period, body = 60 / rng.uniform(85, 135), rng.uniform(90, 220)
    for start in steady_starts(rng, seconds, period, jitter=0.04):
        heel = sine(body * rng.uniform(0.9, 1.1), 0.1) * decay(0.1, 0.02)
        scrape = band(noise(rng, 0.12), 400, rng.uniform(2000, 5000), order=1) * decay(0.12, 0.025, attack=0.015)
        place(total, heel, start)
        place(total, rng.uniform(0.2, 0.5) * scrape, start + rng.uniform(0.02, 0.05))
    return total


def formants(source: Samples, peaks: tuple[float, ...], quality: float = 6.0) -> Samples:
    """Shape a source as a throat does: the sum of a few resonances, the higher ones weaker."""
    return np.sum([resonate(source, peak, quality) / (1 + number) for number, peak in enumerate(peaks)], axis=0)


def dog_bark(rng: Random, seconds: float) -> Samples:
    """Barks: short bursts of a falling, rough voice."""
    total = silence(seconds)
    pitch, size = log_uniform(rng, 180, 650), rng.uniform(0.8, 1.4)
    start = rng.uniform(0.0, 0.6)
    while start < seconds:
        for _ in range(rng.integers(1, 4)):
            held = rng.uniform(0.1, 0.28)
            phase = times(held) / held
            glide = pitch * (0.8 + 0.5 * np.sin(np.pi * np.minimum(1.0, phase + 0.15)))
            voice = harmonics(glide, held, 1 / np.arange(1, 25) ** 0.6) + 1.2 * noise(rng, held)
            bark = formants(voice, (700 * size, 1300 * size, 2600 * size), 3.0)
            place(total, bark * np.sin(np.pi * phase) ** 0.6 * np.exp(-2 * phase), start)
            start += held + rng.uniform(0.08, 0.4)
        start += rng.uniform(0.1, 1.5)
    return total


def rooster(rng: Random, seconds: float) -> Samples:
    """A crow: four harmonic syllables, the last one long and falling."""
    total = silence(seconds)
    pitch, start = rng.uniform(450, 850), rng.uniform(0.0, 0.6)
    while start < seconds:
        for held, height in ((0.15, 0.85), (0.12, 1.0), (0.3, 1.15), (rng.uniform(0.6, 1.3), 1.1)):
            phase = times(held) / held
            glide = pitch * height * (1 + 0.12 * np.sin(np.pi * phase) - 0.25 * phase**3)
            glide *= 1 + 0.01 * np.sin(2 * np.pi * 22 * times(held))
            voice = harmonics(glide, held, (0.6, 1.0, 0.9, 0.6, 0.4, 0.3, 0.2, 0.1)) + 0.1 * noise(rng, held)
            place(total, fade(voice, 0.03), start)
            start += held + rng.uniform(0.02, 0.08)
        start += rng.uniform(1.0, 3.0)
    return total


def baby_cry(rng: Random, seconds: float) -> Samples:
    """Wails: a high voice that rises and falls with each breath."""
    total = silence(seconds)
    pitch, start = rng.uniform(350, 560), rng.uniform(-0.4, 0.4)
    while start < seconds:
        held = rng.uniform(0.5, 1.3)
        phase = times(held) / held
        glide = pitch * (0.85 + 0.35 * np.sin(np.pi * phase) ** 0.5) * (1 + 0.02 * wander(rng, held, 8)[: len(phase)])
        voice = harmonics(glide, held, 1 / np.arange(1, 20) ** 0.8) + rng.uniform(0.05, 0.4) * noise(rng, held)
        cry = formants(voice, (rng.uniform(900, 1200), rng.uniform(1800, 2800), 3800), 4.0)
        place(total, cry * np.sin(np.pi * phase) ** 0.5, start)
        start += held + rng.uniform(0.12, 0.5)
    return total


def sneeze(rng: Random, seconds: float) -> Samples:
    """An indrawn breath and an explosive burst with a short voiced tail."""
    total = silence(seconds)
    for start in poisson_starts(rng, max(0.5, seconds - 1.5), 0.35)[:2]:
        breath = band(noise(rng, 0.5), 600, 3500) * np.linspace(0, 1, length(0.5)) ** 2
        held = rng.uniform(0.25, 0.5)
        burst = highpass(noise(rng, held), rng.uniform(600, 1800)) * decay(held, rng.uniform(0.05, 0.12), attack=0.01)
        pitch = rng.uniform(180, 420) * np.exp(-times(held))
        voice = formants(harmonics(pitch, held, 1 / np.arange(1, 20)), (700, 1500, 2800), 4.0)
        place(total, 0.15 * breath, start)
        place(total, burst + 0.5 * voice * decay(held, 0.12, attack=0.02), start + 0.55)
    return total
