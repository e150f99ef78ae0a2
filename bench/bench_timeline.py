"""How well a timeline finds planted events, by window and loudness; and what two hours cost, picture included.

    python bench/bench_timeline.py [--minutes 8] [--seeds 3] [--hours 2]

The demo model listens to the demo clips at random places in white noise. An event counts as found if its label is
right and both of its ends lie within a hop of where they were planted; F1 is the harmonic mean of the found share of
the planted and of the reported events. All settings but the window are the defaults.
"""

import argparse
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

import clapedge
from clapedge import EmbeddedLabels, Engine, Event, Label, LabelSet, audio
from clapedge.arrays import Float32Array
from clapedge.events import timeline

RATE = 48_000
CLIPS = Path(clapedge.__file__).parent / "demo_clips"
NAMES = ("siren", "smoke alarm", "telephone ringing", "bird chirping", "church bell", "door knock")
NOISE = 0.003
WINDOWS = (None, 1.0, 2.0, 3.0, 5.0, 10.0)
LOUDNESS = {"loud": 1.0, "20 dB less": 0.1, "30 dB less": 0.03}
Planted = tuple[str, float, float]


def plant(minutes: int, loudness: float, seed: int) -> tuple[Float32Array, list[Planted]]:
    """Return noise with demo sounds of 2 to 8 s, 4 to 20 s apart, and what is where."""
    generator = np.random.default_rng(seed)
    samples = (NOISE * generator.standard_normal(minutes * 60 * RATE)).astype(np.float32)
    planted: list[Planted] = []
    at = 3.0
    while True:
        name, length = NAMES[generator.integers(len(NAMES))], generator.uniform(2, 8)
        at += generator.uniform(4, 20)
        if at + length > minutes * 60 - 3:
            return np.clip(samples, -1, 1), planted
        place = slice(round(at * RATE), round((at + length) * RATE))
        sound = audio.read(CLIPS / f"{name.replace(' ', '-')}.flac").samples
        samples[place] += np.float32(loudness) * np.resize(sound, place.stop - place.start)
        planted.append((name, at, at + length))
        at += length


def f1(events: tuple[Event, ...], planted: list[Planted], tolerance: float) -> float:
    """Return the F1 of events whose label is right and whose ends are no farther off than the tolerance."""
    missing = list(planted)
    for event in events:
        for name, start, end in missing:
            if event.label == name and abs(event.start - start) <= tolerance and abs(event.end - end) <= tolerance:
                missing.remove((name, start, end))
                break
    return 2 * (len(planted) - len(missing)) / (len(planted) + len(events))


def labels_of(engine: Engine) -> EmbeddedLabels:
    """Return the labels of what is planted, and the noise around it as a hidden one."""
    shown = (Label(name, (f"This is a sound of {name}.",)) for name in NAMES)
    return engine.embed_labels(LabelSet((*shown, Label("noise", ("white noise",), hidden=True))))


def print_accuracy(minutes: int, seeds: int) -> None:
    """Print a row a window."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = Engine.load()
    labels = labels_of(engine)
    material = {name: [plant(minutes, gain, seed) for seed in range(seeds)] for name, gain in LOUDNESS.items()}
    print(f"| window s | {' | '.join(LOUDNESS)} |")
    print(f"|---|{'---|' * len(LOUDNESS)}")
    for window in WINDOWS:
        row = []
        for recordings in material.values():
            found = [(engine.timeline(samples, labels, window=window), where) for samples, where in recordings]
            row.append(np.mean([f1(one.events(), where, timeline.HOP_SECONDS) for one, where in found]))
        print(f"| {window or 'default'} | {' | '.join(f'{value:.2f}' for value in row)} |", flush=True)


def print_cost(hours: int) -> None:
    """Print time and peak memory of the command on a long recording, with a picture if matplotlib is there."""
    samples, _ = plant(1, 1.0, 0)
    with TemporaryDirectory() as name:
        path = Path(name) / "long.flac"
        with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="FLAC") as file:
            for _ in range(60 * hours):
                file.write(samples)
        command = [sys.executable, "-m", "clapedge.cli", "timeline", str(path), "-l", ",".join(NAMES), "--plot"]
        began = time.perf_counter()
        subprocess.run([*command, f"{name}/plot.png"], check=True, capture_output=True)  # noqa: S603 - our own command
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{hours} h of FLAC: {time.perf_counter() - began:.0f} s, {peak:.0f} MB at the peak")


def main() -> None:
    """Print the table and the line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=int, default=8, help="of each recording with planted events")
    parser.add_argument("--seeds", type=int, default=3, help="recordings of each loudness")
    parser.add_argument("--hours", type=int, default=2, help="of the long recording")
    arguments = parser.parse_args()
    print_accuracy(arguments.minutes, arguments.seeds)
    print_cost(arguments.hours)


if __name__ == "__main__":
    main()
