"""Whether a promised number of false alarms holds over days of background, and what is still found there.

    python bench/bench_promise.py --keep DIR [--hours 72] [--calibrate 24]

A site is synthesised hour by hour, with sounds in it that no label is for; each hour's embeddings are kept in DIR, so
that an interrupted run goes on. The first hours calibrate, the others are counted. Intervals are of 95 %.
"""

import argparse
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import families
import sites
import unseen
from bench_teach import Pool, interval, kept_pool, shown
from clapedge import ClapEdgeWarning, EmbeddedLabels, Engine, LabelSet
from clapedge.arrays import Float32Array
from clapedge.atomic_file import atomic_write
from clapedge.labels.examples import Examples
from clapedge.scoring.similarity import Scorer
from clapedge.teaching.background import FalseAlarms
from clapedge.teaching.prototypes import teach
from clapedge.teaching.windows import BackgroundWindows
from clapedge_demo.synth.parts import place

WINDOW, HOP = 5.0, 10.0
"""Seconds of a window of background, as long as the clips that teach, and from one to the next: half of the time is
listened to, as a device that saves power does, and days of it take half an hour to synthesise."""

EVENTS_PER_HOUR = 30
"""Unknown events in the background."""

EVENT_SECONDS = 3.0

WORDS = (
    *("baby cry", "chainsaw", "clock tick", "dog bark", "fire crackling"),
    *("helicopter", "person sneeze", "rain", "rooster", "sea waves"),
)


@dataclass(frozen=True)
class Site:
    """A place with sounds of its own, and sounds that no label is for.

    Attributes:
        name: seeds it.
        background: what always sounds.
        unknown: what sounds now and then.
    """

    name: str
    background: sites.Background
    unknown: Mapping[str, families.Recipe]

    def windows(self, hour: int) -> Iterator[Float32Array]:
        """Yield the windows of an hour."""
        recipes = list(self.unknown.values())
        for number in range(round(3600 / HOP)):
            rng = np.random.default_rng([13, hour, 2 * number, *self.name.encode()])
            bed = self.background(rng, WINDOW)
            if rng.random() < EVENTS_PER_HOUR * WINDOW / 3600:
                recipe = recipes[rng.integers(len(recipes))]
                sound = recipe(rng, rng, EVENT_SECONDS)
                loud = bed.std() * rng.uniform(1, 6) / np.abs(sound).max()
                place(bed, loud * sound, rng.uniform(0, WINDOW - EVENT_SECONDS))
            yield np.asarray(0.1 * bed / np.abs(bed).max(), np.float32)

    def embedded(self, engine: Engine, hour: int, folder: Path) -> Float32Array:
        """Return the embeddings of an hour, kept or made."""
        path = folder / f"{self.name}-{hour:03}.npy"
        if not path.exists():
            rows = engine.embed_audio(self.windows(hour))
            with atomic_write(path) as part, part.open("wb") as stream:
                np.save(stream, rows)
        return np.asarray(np.load(path, allow_pickle=False), np.float32)


WORKSHOP = Site("workshop", sites.workshop, families.FAMILIES)

TAUGHT, CLIPS = 20, 5


def taught_labels(pool: Pool, words: EmbeddedLabels, others: Float32Array) -> tuple[EmbeddedLabels, list[Float32Array]]:
    """Return words with the first families taught by clips at 10 dB, and the clips of each at 0 dB, to be found."""
    examples = Examples(np.empty((0, pool.rows.shape[1]), np.int8))
    planted = []
    for name in sorted(unseen.FAMILIES)[:TAUGHT]:
        own = pool.where(family=name, site=WORKSHOP.name, snr=10, thing=0)[:CLIPS]
        examples += Examples.of(pool.rows[own], label=name, kind="example", clips=[""] * len(own))
        planted.append(pool.rows[pool.where(family=name, site=WORKSHOP.name, snr=0, thing=0)])
    return teach(words, examples, others, text_tower=words.text_tower), planted


def count(labels: EmbeddedLabels, hours: Sequence[Float32Array], planted: Sequence[Float32Array], scale: float) -> None:
    """Print false alarms a day of each label, and how many planted sounds reach the threshold of their label.

    Args:
        labels: calibrated ones; those of the planted sounds are the last.
        hours: embeddings of the windows of each.
        planted: embeddings of the clips of each planted sound.
        scale: the model's logit scale.
    """
    scorer, days = Scorer(labels, scale), len(hours) / 24
    limits = np.array([label.threshold for label in labels.label_set.labels])
    alarms = (scorer.similarities(np.concatenate(hours)) >= limits).sum(axis=0) / days
    print(f"{days:g} days; false alarms a label and day: {shown(interval(alarms.tolist()))}")
    first, found = len(limits) - len(planted), [scorer.similarities(rows) >= limits for rows in planted]
    for name, values in (("words", alarms[:first]), ("taught", alarms[first:])):
        print(f"  {name}: {np.round(values, 2).tolist()}")
    names = [label.name for label in labels.label_set.labels[first:]]
    shares = [
        f"{name} {rows[:, first + at].mean():.2f}" for at, (name, rows) in enumerate(zip(names, found, strict=True))
    ]
    reached = [float(one) for at, rows in enumerate(found) for one in rows[:, first + at]]
    print(f"  planted at 0 dB, that reach their threshold: {shown(interval(reached))}")
    print("  by family: " + ", ".join(shares), flush=True)


def count_novelty(
    labels: EmbeddedLabels, hours: Sequence[Float32Array], planted: Sequence[Float32Array], scale: float
) -> None:
    """Print false alarms a day of novelty alone, and how many planted sounds are novel."""
    scorer, limit = Scorer(labels, scale), labels.label_set.labels[0].threshold
    alarms = int((scorer.similarities(np.concatenate(hours)) >= np.array(limit)).sum())
    novel = (scorer.similarities(np.concatenate(planted)) >= np.array(limit))[:, 0]
    share = shown(interval(novel.astype(float).tolist()))
    print(f"  novelty: {24 * alarms / len(hours):.2f} a day; planted at 0 dB: {share}", flush=True)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", type=Path, required=True, help="folder of what takes long: embeddings")
    parser.add_argument("--hours", type=int, default=72, help="that are counted")
    parser.add_argument("--calibrate", type=int, default=24, help="hours that calibrate, before these")
    arguments = parser.parse_args()
    with warnings.catch_warnings(), Engine.load(threads=1) as engine:
        warnings.simplefilter("ignore", ClapEdgeWarning)
        pool = kept_pool(arguments.keep / "unseen.npz", engine, unseen.FAMILIES, sites.UNSEEN)
        hours = [
            WORKSHOP.embedded(engine, hour, arguments.keep) for hour in range(arguments.calibrate + arguments.hours)
        ]
        words = engine.embed_labels(LabelSet.of(WORDS))
        others = engine.teacher.pool(Examples(np.empty((0, pool.rows.shape[1]), np.int8)))
        labels, planted = taught_labels(pool, words, others)
        background = BackgroundWindows.of(hours[: arguments.calibrate], hop=HOP, space=engine.provenance.space)
        calibrate, scale = engine.teacher.calibrate, engine.bundle.manifest.logit_scale
        counted = hours[arguments.calibrate :]
        count(calibrate(labels, background, alarms=FalseAlarms(1, "day")), counted, planted, scale)
        for rate in (FalseAlarms(1, "day"), FalseAlarms(1, "hour")):
            print(f"{rate.count:g}/{rate.unit}, two thirds of the background for the threshold:")
            count_novelty(calibrate(None, background, alarms=rate, novelty=True), counted, planted, scale)


if __name__ == "__main__":
    main()
