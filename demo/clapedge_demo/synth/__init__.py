"""Synthesised sounds: every kind is a function of a seed, rendered at 48 kHz with its own room, noise and level."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from clapedge_demo.synth import living, machines, signals, weather
from clapedge_demo.synth.parts import RATE, Random, Samples, fade, log_uniform, noise, normalise, room

__all__ = ["IMITATIONS", "KINDS", "RATE", "render"]

Generator = Callable[[Random, float], Samples]

KINDS: Mapping[str, Generator] = MappingProxyType(
    {
        "smoke alarm": signals.smoke_alarm,
        "siren": signals.siren,
        "telephone keypad": signals.dtmf,
        "doorbell": signals.doorbell,
        "car horn": signals.car_horn,
        "morse code": signals.morse_code,
        "laser": signals.laser,
        "church bell": signals.church_bell,
        "telephone ringing": signals.telephone,
        "dial tone": signals.dial_tone,
        "steady tone": signals.steady_tone,
        "music": signals.music,
        "reversing beeper": signals.reversing_beeper,
        "bird chirping": living.bird,
        "crickets": living.crickets,
        "frog": living.frog,
        "whistling": living.whistle,
        "heartbeat": living.heartbeat,
        "applause": living.applause,
        "footsteps": living.footsteps,
        "mains hum": machines.mains_hum,
        "engine idling": machines.engine_idle,
        "drill": machines.drill,
        "door knock": machines.knocks,
        "geiger counter": machines.geiger,
        "keyboard typing": machines.keyboard,
        "glass breaking": machines.glass_break,
        "white noise": weather.white_noise,
        "wind": weather.wind,
        "water drops": weather.water_drops,
        "thunder": weather.thunder,
        "silence": weather.quiet,
    }
)
"""Kinds that exist only as synthesised sounds."""

IMITATIONS: Mapping[str, Generator] = MappingProxyType(
    {
        "dog bark": living.dog_bark,
        "rooster": living.rooster,
        "baby cry": living.baby_cry,
        "person sneeze": living.sneeze,
        "clock tick": machines.clock_tick,
        "chainsaw": machines.chainsaw,
        "helicopter": machines.helicopter,
        "fire crackling": machines.fire,
        "rain": weather.rain,
        "sea waves": weather.sea_waves,
    }
)
"""Rough imitations of the recorded classes: the tower learns their words from these before it hears the real ones."""

QUIETEST_DB, LOUDEST_DB = -30.0, -1.0
"""Range of the peak level of a rendered sound, dB below full scale."""


def render(kind: str, seed: int, *, seconds: float = 5.0) -> npt.NDArray[np.float32]:
    """Synthesise one sound.

    Args:
        kind: a key of `KINDS` or `IMITATIONS`.
        seed: the same seed gives the same samples.
        seconds: length of the sound.

    Returns:
        Mono samples (seconds * 48000,) float32 in ±1.
    """
    generator = KINDS[kind] if kind in KINDS else IMITATIONS[kind]
    rng = np.random.default_rng([seed, *kind.encode()])
    samples = normalise(generator(rng, seconds))
    if kind == "silence":
        samples = samples * 10 ** (rng.uniform(-75, -50) / 20)
        return samples.astype(np.float32)
    if rng.random() < 0.5:
        samples = normalise(room(rng, samples, seconds=log_uniform(rng, 0.08, 1.0), wet=rng.uniform(0.1, 0.8)))
    hiss = noise(rng, seconds, slope=rng.uniform(0.0, 5.0)) * 10 ** (rng.uniform(-70, -28) / 20)
    level = 10 ** (rng.uniform(QUIETEST_DB, LOUDEST_DB) / 20)
    return (level * normalise(fade(samples, 0.003) + hiss)).astype(np.float32)
