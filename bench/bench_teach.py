"""How well taught sounds are found beside words, what words lose by it, and how well "none of these" is known.

    python bench/bench_teach.py --esc10 DIR --keep DIR [--episodes 200]

Twenty sounds are taught at a time, beside the ten words of ESC-10, from families (`unseen.py`) that neither the demo
model's training nor the choice of the method has used. An episode draws families, things and clips with its own seed.
False alarms over days are measured by `bench_promise.py`.
Intervals are of 95 %: the mean over episodes and 1.96 standard errors.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from sklearn.metrics import roc_auc_score

import families
import sites
import unseen
from clapedge import ClapEdgeWarning, EmbeddedLabels, Engine, Label, LabelSet
from clapedge.arrays import Float32Array
from clapedge.atomic_file import atomic_write
from clapedge.labels.examples import Examples
from clapedge.teaching import prototypes
from clapedge.teaching.background import FalseAlarms, calibrate
from clapedge.teaching.prototypes import teach
from clapedge_demo.data import Recording, read_table

THINGS, TAKES = 3, 8
SNRS = (10, 0)
WAY = 20
TEST_FOLD = 4
"""Fold of ESC-10 that the tower was not trained with."""

WINDOW = 10.0
"""Seconds from one window of background to the next."""

Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.floating[Any]]]"
Maker: TypeAlias = Callable[[Examples], EmbeddedLabels]
Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Pool:
    """Embedded clips of many families, with what is in each."""

    rows: Float32Array
    family: "np.ndarray[Any, np.dtype[np.str_]]"
    site: "np.ndarray[Any, np.dtype[np.str_]]"
    snr: "np.ndarray[Any, np.dtype[np.int64]]"
    thing: "np.ndarray[Any, np.dtype[np.int64]]"

    def where(self, **wanted: object) -> "np.ndarray[Any, np.dtype[np.int64]]":
        """Return the places of the clips with these values."""
        found = np.ones(len(self.rows), bool)
        for name, value in wanted.items():
            found &= getattr(self, name) == value
        return np.flatnonzero(found)


def kept_pool(
    path: Path, engine: Engine, recipes: Mapping[str, families.Recipe], backgrounds: Mapping[str, sites.Background]
) -> Pool:
    """Return clips of every family at every site and loudness, kept in a file or made."""
    if not path.exists():
        with atomic_write(path) as part, part.open("wb") as stream:
            np.savez(stream, **vars(render(engine, recipes, backgrounds)))
    with np.load(path, allow_pickle=False) as arrays:
        return Pool(**arrays)


def render(engine: Engine, recipes: Mapping[str, families.Recipe], backgrounds: Mapping[str, sites.Background]) -> Pool:
    """Render and embed clips of every family at every site and loudness."""
    about: list[tuple[str, str, int, int]] = []

    def clips() -> Iterator[Float32Array]:
        for name, recipe in recipes.items():
            for number, (site, background) in enumerate(backgrounds.items()):
                for snr in SNRS:
                    for thing in range(THINGS):
                        for take in range(TAKES):
                            about.append((name, site, snr, thing))
                            seed = take + 100 * snr + 1000 * number
                            yield sites.clip(recipe, background, thing=thing, take=seed, snr=snr)

    rows = engine.embed_audio(clips())
    family, site, snr, thing = (np.array(column) for column in zip(*about, strict=True))
    return Pool(rows, family, site, snr, thing)


@dataclass(frozen=True, eq=False)
class Episode:
    """Clips to learn from, and clips to find."""

    examples: Examples
    queries: Float32Array
    owners: "np.ndarray[Any, np.dtype[np.int64]]"
    strangers: Float32Array


def draw(pool: Pool, seed: int, *, clips: int, snr: int, same: bool) -> Episode:
    """Draw an episode: sounds at 10 dB of one site, and others of the same or of another thing to be found there."""
    rng = np.random.default_rng([7, seed])
    known = rng.permutation(np.unique(pool.family))
    site = rng.choice(np.unique(pool.site))
    examples = Examples(np.empty((0, pool.rows.shape[1]), np.int8))
    queries, owners = [], []
    for number, family in enumerate(known[:WAY]):
        thing = int(rng.integers(THINGS))
        own = rng.permutation(pool.where(family=family, site=site, snr=10, thing=thing))
        examples += Examples.of(pool.rows[own[:clips]], label=f"taught {family}", kind="example", clips=[""] * clips)
        wanted = thing if same else (thing + 1) % THINGS
        others = np.setdiff1d(pool.where(family=family, site=site, snr=snr, thing=wanted), own[:clips])
        queries.append(pool.rows[rng.permutation(others)[:3]])
        owners += [number] * len(queries[-1])
    strangers = [pool.rows[pool.where(family=family, site=site, snr=10)] for family in known[WAY:]]
    return Episode(examples, np.concatenate(queries), np.array(owners), np.concatenate(strangers))


def similarities(labels: EmbeddedLabels, rows: Float32Array) -> Float32Array:
    """Return the similarities (N, labels)."""
    cosines = np.asarray(rows @ labels.embeddings.T, np.float32)
    return cosines if labels.placement is None else labels.placement.similarities(cosines)


def interval(values: Sequence[float]) -> Interval:
    """Return the mean, and half of its 95 % interval."""
    return float(np.mean(values)), float(1.96 * np.std(values, ddof=1) / len(values) ** 0.5)


def shown(value: Interval) -> str:
    """Return an interval as text."""
    return f"{value[0]:.3f} ± {value[1]:.3f}"


@dataclass(frozen=True, eq=False)
class Words:
    """The words of ESC-10, its test recordings, and the pool of other sounds."""

    labels: EmbeddedLabels
    rows: Float32Array
    owners: "np.ndarray[Any, np.dtype[np.int64]]"
    others: Float32Array
    learning: Float32Array
    learning_owners: "np.ndarray[Any, np.dtype[np.int64]]"

    def accuracy(self, labels: EmbeddedLabels) -> float:
        """Return the share of the test recordings whose best label is their word."""
        return float((similarities(labels, self.rows).argmax(axis=1) == self.owners).mean())


def words_of(engine: Engine, recordings: Sequence[Recording]) -> Words:
    """Embed ESC-10."""
    names = sorted({one.label for one in recordings})
    test = [one for one in recordings if one.fold == TEST_FOLD]
    learning = [one for one in recordings if one.fold != TEST_FOLD]
    empty = Examples(np.empty((0, engine.bundle.manifest.embedding_size), np.int8))
    return Words(
        engine.embed_labels(LabelSet.of(names)),
        engine.embed_audio(one.path for one in test),
        np.array([names.index(one.label) for one in test]),
        engine.teacher.pool(empty),
        engine.embed_audio(one.path for one in learning),
        np.array([names.index(one.label) for one in learning]),
    )


def taught_sounds(pool: Pool, words: Words, episodes: int) -> dict[str, dict[str, Interval]]:
    """Return accuracy of taught sounds, and what words lose, by number of clips, loudness and thing."""
    found = {}
    plain = words.accuracy(words.labels)
    for clips, snr, same in ((1, 10, True), (3, 10, True), (5, 10, True), (5, 0, True), (5, 10, False), (1, 0, True)):
        own, lost = [], []
        for seed in range(episodes):
            episode = draw(pool, seed, clips=clips, snr=snr, same=same)
            labels = teach(words.labels, episode.examples, words.others, text_tower=words.labels.text_tower)
            best = similarities(labels, episode.queries).argmax(axis=1) - len(words.labels.embeddings)
            own.append(float((best == episode.owners).mean()))
            lost.append(plain - words.accuracy(labels))
        name = f"{clips} clips, {snr} dB{'' if same else ', another thing'}"
        found[name] = {"taught": interval(own), "words lose": interval(lost)}
        print(
            f"{name:34} taught {shown(found[name]['taught'])}  words lose {shown(found[name]['words lose'])}",
            flush=True,
        )
    return found


def ablation(pool: Pool, words: Words, episodes: int) -> None:
    """Print what is left when a part of the method is left out or changed."""
    tower, whole = words.labels.text_tower, words.others
    pools = {"whole": whole, "half": whole[::2], "recordings alone": whole[:64], "synthesised alone": whole[64:]}
    for name, rows in pools.items():
        print_trial(f"pool: {name}", pool, words, episodes, partial(teach, words.labels, pool=rows, text_tower=tower))
    kept = prototypes.RIDGE
    for ridge in (0.01, 1.0, 1000.0):
        prototypes.RIDGE = ridge
        print_trial(
            f"ridge {ridge:g}", pool, words, episodes, partial(teach, words.labels, pool=whole, text_tower=tower)
        )
    prototypes.RIDGE = kept
    print_trial("raw mean of the clips", pool, words, episodes, partial(raw_means, words.labels))


def raw_means(labels: EmbeddedLabels, examples: Examples) -> EmbeddedLabels:
    """Return labels beside the plain means of clips, as a user of embeddings would make them."""
    names = list(dict.fromkeys(examples.labels))
    means = np.array([examples.where(label=name).vectors().mean(axis=0) for name in names])
    rows = np.concatenate([labels.embeddings, means / np.linalg.norm(means, axis=1, keepdims=True)])
    every = (*labels.label_set.labels, *(Label(name, (name,)) for name in names))
    return EmbeddedLabels(LabelSet(every), rows, labels.text_tower)


def print_trial(name: str, pool: Pool, words: Words, episodes: int, make: Callable[[Examples], EmbeddedLabels]) -> None:
    """Print how well a method finds taught sounds at 10 and at 0 dB, and what words lose."""
    found: dict[int, list[float]] = {snr: [] for snr in SNRS}
    lost = []
    for seed in range(episodes):
        for snr, into in found.items():
            episode = draw(pool, seed, clips=5, snr=snr, same=True)
            labels = make(episode.examples)
            best = similarities(labels, episode.queries).argmax(axis=1) - len(words.labels.embeddings)
            into.append(float((best == episode.owners).mean()))
            lost.append(words.accuracy(words.labels) - words.accuracy(labels))
    accuracies = "  ".join(f"{snr} dB {np.mean(values):.3f}" for snr, values in found.items())
    print(f"{name:24} {accuracies}  words lose {np.mean(lost):.3f}", flush=True)


def words_and_clips(words: Words, episodes: int) -> None:
    """Print the accuracy of the ten words, of five clips of each, and of both."""
    rows: dict[str, list[float]] = {"words": [], "clips": [], "words and clips": []}
    names = [label.name for label in words.labels.label_set.labels]
    for seed in range(episodes):
        rng = np.random.default_rng([8, seed])
        examples = Examples(np.empty((0, words.rows.shape[1]), np.int8))
        for number, name in enumerate(names):
            own = rng.permutation(np.flatnonzero(words.learning_owners == number))[:5]
            examples += Examples.of(words.learning[own], label=name, kind="example", clips=[""] * 5)
        tower = words.labels.text_tower
        rows["words"].append(words.accuracy(words.labels))
        rows["clips"].append(words.accuracy(teach(None, examples, words.others, text_tower=tower)))
        rows["words and clips"].append(words.accuracy(teach(words.labels, examples, words.others, text_tower=tower)))
    for name, values in rows.items():
        print(f"ESC-10 by {name}: {shown(interval(values))}", flush=True)


def rejection(engine: Engine, pool: Pool, words: Words, episodes: int) -> None:
    """Print how well known sounds are told from families that nobody taught, by each score that could decide it."""
    beds = {name: backgrounds(engine, name, background, 400) for name, background in sites.UNSEEN.items()}
    scale = engine.bundle.manifest.logit_scale
    found: dict[str, list[float]] = {}
    together: dict[str, list[tuple[float, bool]]] = {}
    kept: list[float] = []
    for seed in range(episodes):
        episode = draw(pool, seed, clips=5, snr=10, same=True)
        rng = np.random.default_rng([9, seed])
        labels = teach(words.labels, episode.examples, words.others, text_tower=words.labels.text_tower)
        bed = beds[str(rng.choice(sorted(beds)))]
        known, strange = similarities(labels, episode.queries), similarities(labels, episode.strangers)
        labels = calibrate(labels, [similarities(labels, bed)], alarms=FalseAlarms(10, "1000"), hop=WINDOW)
        limits = np.array([label.threshold for label in labels.label_set.labels])
        kept += [float((rows.max(axis=1) >= limits[rows.argmax(axis=1)]).mean()) for rows in (known, strange)]
        truth = [True] * len(known) + [False] * len(strange)
        both = np.concatenate([known, strange])
        logits = both.astype(np.float64) * scale
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = {
            "fit": both.max(axis=1),
            "largest probability": 1 / powers.sum(axis=1),
            "energy": logits.max(axis=1) + np.log(powers.sum(axis=1)),
        }
        for name, values in scores.items():
            found.setdefault(name, []).append(float(roc_auc_score(truth, values)))
        for count in (2, 5, 20):
            few = slice(len(words.labels.embeddings), len(words.labels.embeddings) + count)
            own = episode.owners < count
            for name, values in _two_scores(both[:, few], logits[:, few]):
                pairs = together.setdefault(name, [])
                pairs += [(float(value), True) for value in values[: len(known)][own]]
                pairs += [(float(value), False) for value in values[len(known) :]]
    for name, values in found.items():
        print(f"AUROC, 20 taught and 10 words against unseen families, {name}: {shown(interval(values))}", flush=True)
    for name, pairs in together.items():
        area = roc_auc_score([truth for _, truth in pairs], [score for score, _ in pairs])
        print(f"AUROC over sets of 2, 5 and 20 labels together, {name}: {area:.3f}", flush=True)
    shares = f"known {shown(interval(kept[::2]))}, unseen {shown(interval(kept[1::2]))}"
    print(f"not unknown, with 10 false alarms a label in 1000 clips of background: {shares}", flush=True)


def _two_scores(values: Floats, logits: Floats) -> list[tuple[str, Floats]]:
    """Return the two scores that are compared over label sets of several sizes."""
    return [("fit", values.max(axis=1)), ("largest probability", _probability(logits))]


def _probability(logits: Floats) -> Floats:
    """Return the largest probability of each row."""
    return np.asarray(1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1))


def held_out(engine: Engine, words: Words) -> None:
    """Print how well eight classes of ESC-10 are told from two that have no words, over all pairs."""
    count = len(words.labels.embeddings)
    found: dict[str, list[float]] = {"fit": [], "largest probability": []}
    for pair in ((one, other) for one in range(count) for other in range(one + 1, count)):
        kept = [number for number in range(count) if number not in pair]
        chosen = tuple(words.labels.label_set.labels[number] for number in kept)
        labels = EmbeddedLabels(LabelSet(chosen), words.labels.embeddings[kept], words.labels.text_tower)
        values, truth = similarities(labels, words.rows), [owner not in pair for owner in words.owners.tolist()]
        scale = engine.bundle.manifest.logit_scale
        for name, scores in (
            ("fit", values.max(axis=1)),
            ("largest probability", _probability(values * scale)),
        ):
            found[name].append(float(roc_auc_score(truth, scores)))
    for name, areas in found.items():
        mean = shown(interval(areas))
        print(f"AUROC, ESC-10 with two classes without words, {name}: {mean}, worst pair {min(areas):.3f}", flush=True)


def backgrounds(engine: Engine, name: str, background: sites.Background, count: int) -> Float32Array:
    """Embed clips of a background alone."""

    def clips() -> Iterator[Float32Array]:
        for take in range(count):
            rng = np.random.default_rng([11, take, *name.encode()])
            samples = background(rng, 5.0)
            yield np.asarray(10 ** (rng.uniform(-25, -3) / 20) * samples / np.abs(samples).max(), np.float32)

    return engine.embed_audio(clips())


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--esc10", type=Path, required=True, help="folder of ESC-10 with its clips.csv")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--keep", type=Path, required=True, help="folder of what takes long: embedded clips")
    arguments = parser.parse_args()
    with warnings.catch_warnings(), Engine.load(threads=1) as engine:
        warnings.simplefilter("ignore", ClapEdgeWarning)
        words = words_of(engine, read_table(arguments.esc10))
        words_and_clips(words, arguments.episodes)
        held_out(engine, words)
        pool = kept_pool(arguments.keep / "unseen.npz", engine, unseen.FAMILIES, sites.UNSEEN)
        taught_sounds(pool, words, arguments.episodes)
        ablation(pool, words, arguments.episodes // 4)
        rejection(engine, pool, words, arguments.episodes)


if __name__ == "__main__":
    main()
