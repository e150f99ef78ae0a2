"""What short towers save and what they cost: time of a clip, cosine to the whole tower, best label, events.

    python bench/bench_short.py BUNDLE [--precision int8] [--esc10 DIR] [--clips 40] [--minutes 6] [--seeds 4]

Times are medians on one thread, the towers in turns. Cosines and labels are of windows of ESC-10's fold 4, which the
demo model has not seen, cut around the loudest moment of each recording. Events are those of `bench_timeline`: planted
sounds in noise, F1 with the processor time of a timeline beside it. Labels and events mean something with the demo
model alone, whose sounds these are: for other bundles they are left out.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from bench_timeline import LOUDNESS, f1, labels_of, plant
from clapedge import Engine, audio
from clapedge.arrays import Float32Array
from clapedge.features.strips import Strips, fitting_strips, repeating_strips, strip_frames
from clapedge.model.tower_set import TowerChoice

RATE = 48_000
TOWERS: tuple[Strips | None, ...] = (None, 1, 2)
WINDOWS = (0.5, 1.0, 1.25, 2.0, 2.5, 4.0, 5.0)
CHOICES: tuple[TowerChoice, ...] = ("whole", "short")
TIMELINES = (2.0, 2.5, 5.0)
LOUDEST = 4800
"""Samples of the moment that counts as loudest: a tenth of a second."""


def print_times(engine: Engine, runs: int) -> None:
    """Print the time of one clip by tower, in turns."""
    front_end, flag = engine.bundle.manifest.front_end, np.zeros(1, np.bool_)
    generator = np.random.default_rng(0)
    features: dict[Strips | None, Float32Array] = {}
    taken: dict[Strips | None, list[float]] = {strips: [] for strips in TOWERS}
    for strips in TOWERS:
        frames = front_end.clip_frames if strips is None else len(strip_frames(strips, front_end.clip_frames))
        shape = (1, front_end.channels if strips is None else 1, frames, front_end.n_mels)
        features[strips] = generator.normal(-40, 15, shape).astype(np.float32)
        engine.towers.open(strips).alone.embed(features[strips], flag)
    for _ in range(runs):
        for strips in TOWERS:
            began = time.perf_counter()
            engine.towers.open(strips).alone.embed(features[strips], flag)
            taken[strips].append(time.perf_counter() - began)
    whole = float(np.median(taken[None]))
    print("| strips | ms a clip | of the whole |\n|---|---|---|")
    for strips in TOWERS:
        found = float(np.median(taken[strips]))
        print(f"| {strips or 'whole'} | {1e3 * found:.1f} | {found / whole:.3f} |", flush=True)


def strips_of(engine: Engine, seconds: float) -> Strips | None:
    """Return the strips that `auto` takes for a window, else those of `short`."""
    front_end = engine.bundle.manifest.front_end
    return repeating_strips(seconds, front_end) or fitting_strips(seconds, front_end)


@dataclass(frozen=True)
class Agreement:
    """How near a short tower comes to the whole one.

    Attributes:
        cosines: to the whole tower's embeddings, one a window.
        same: share of windows whose best label is the same; None without labels.
        right: share of windows whose best label is right, of the whole tower and of the short one.
    """

    cosines: list[float]
    same: float | None
    right: tuple[float, float] | None


def windows(directory: Path, seconds: float, clips: int) -> Iterator[tuple[str, Float32Array]]:
    """Yield the class and the loudest seconds of recordings of fold 4, evenly over the classes."""
    files = sorted(directory.glob("*/4-*.ogg"))
    if not files:
        sys.exit(f"{directory} holds no CLASS/4-*.ogg; name the directory of ESC-10")
    for path in files[:: max(1, len(files) // clips)][:clips]:
        samples, length = audio.read(path).samples, round(seconds * RATE)
        power = np.convolve(samples**2, np.ones(LOUDEST), "same")
        start = max(0, min(len(samples) - length, int(power.argmax()) - length // 2))
        yield path.parent.name.replace("_", " "), np.resize(samples[start : start + length], length)


def agreement(engine: Engine, directory: Path, seconds: float, clips: int, *, labelled: bool) -> Agreement:
    """Compare the towers on windows of one length."""
    strips = strips_of(engine, seconds)
    classes, sounds = zip(*windows(directory, seconds, clips), strict=True)
    whole, short = (engine.embed_audio([(sound, RATE) for sound in sounds], strips=each) for each in (None, strips))
    cosines = (whole * short).sum(axis=1).tolist()
    if not labelled:
        return Agreement(cosines, None, None)
    names = sorted({path.name.replace("_", " ") for path in directory.iterdir() if path.is_dir()})
    scorer = engine.scorer(names)
    best = [np.argmax(scorer.visible_scores(each)[0], axis=1) for each in (whole, short)]
    truth = np.array([names.index(each) for each in classes])
    right = (float(np.mean(best[0] == truth)), float(np.mean(best[1] == truth)))
    return Agreement(cosines, float(np.mean(best[0] == best[1])), right)


def print_agreement(engine: Engine, directory: Path, clips: int, *, labelled: bool) -> None:
    """Print a row a window length."""
    print("| window s | strips | mean cosine | least | same best label | right: whole | right: short |")
    print("|---|---|---|---|---|---|---|")
    for seconds in WINDOWS:
        found = agreement(engine, directory, seconds, clips, labelled=labelled)
        shares = ["", "", ""]
        if found.same is not None and found.right is not None:
            shares = [f"{share:.3f}" for share in (found.same, *found.right)]
        strips = strips_of(engine, seconds)
        figures = f"{np.mean(found.cosines):.5f} | {min(found.cosines):.5f}"
        print(f"| {seconds:g} | {strips} | {figures} | {' | '.join(shares)} |", flush=True)


def print_timelines(engine: Engine, minutes: int, seeds: int) -> None:
    """Print F1 and processor time of timelines by window and tower."""
    labels = labels_of(engine)
    material = {name: [plant(minutes, gain, seed) for seed in range(seeds)] for name, gain in LOUDNESS.items()}
    print(f"| window s | tower | {' | '.join(LOUDNESS)} | processor s |\n|---|---|{'---|' * (len(LOUDNESS) + 1)}")
    for window, tower in product(TIMELINES, CHOICES):
        began, row = time.process_time(), []
        for recordings in material.values():
            found = [
                (engine.timeline(samples, labels, window=window, tower=tower), where) for samples, where in recordings
            ]
            row.append(np.mean([f1(one.events(), where, 1.0) for one, where in found]))
        took = time.process_time() - began
        print(f"| {window:g} | {tower} | {' | '.join(f'{f:.3f}' for f in row)} | {took:.1f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="exported with short towers; the demo checkpoint gives all tables")
    parser.add_argument("--precision", default="int8", choices=["fp32", "int8"])
    parser.add_argument("--esc10", type=Path, help="directory of ESC-10, for cosines and labels")
    parser.add_argument("--clips", type=int, default=40, help="recordings of fold 4")
    parser.add_argument("--runs", type=int, default=41, help="of each tower, for its time")
    parser.add_argument(
        "--minutes", type=int, default=6, help="of each recording with planted events; 0 leaves them out"
    )
    parser.add_argument("--seeds", type=int, default=4, help="recordings with planted events")
    chosen = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = Engine.load(chosen.bundle, provider="cpu", precision=chosen.precision, threads=1)
    labelled = engine.bundle.manifest.weights == "demo"
    print(f"{engine.bundle.manifest.model}, {chosen.precision}, one thread\n")
    print_times(engine, chosen.runs)
    if chosen.esc10:
        print()
        print_agreement(engine, chosen.esc10, chosen.clips, labelled=labelled)
    if labelled and chosen.minutes:
        print()
        print_timelines(engine, chosen.minutes, chosen.seeds)


if __name__ == "__main__":
    main()
