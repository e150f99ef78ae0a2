"""Kept embeddings of clips to labels that stand beside words: closed form, and the same whenever it is repeated.

A taught label is a linear discriminant: the mean of its clips against a pool of other sounds, in the metric of that
pool. Its similarity is moved to where words lie, so that both share one label set; docs/teach.md has the ablation.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float64Array
from clapedge.errors import LabelError
from clapedge.labels import EmbeddedLabels, Label, LabelSet
from clapedge.labels.examples import Examples
from clapedge.labels.placement import Placement
from clapedge.teaching.novelty import append_novelty

RIDGE = 0.1
"""Of the pool's mean variance, added to each direction: what so few clips do not show."""

SCALE = 3.0
"""How far the similarity of a taught label falls between its clips and other sounds. This, `SHIFT` and `RIDGE` were
chosen with sounds that take no part in the test, see bench/bench_teach.py."""

SHIFT = -0.15
"""How far other sounds are, for a taught label, below where they are for words on average."""

FEWEST_OTHERS = 32
"""Other sounds that are needed: with fewer, what is special about a clip cannot be seen beside what all share."""

WORDS_SHARE = 0.8
"""Of words in the similarity of a label that has clips too, where its words fit these clips."""

WORDS_FIT = (2.0, 3.0)
"""Standard deviations of the pool by which the words of a label must put its clips above other sounds, to count at all
and to count in full. Words that mean the sound reach 2.9 and more, words that do not mean it 1.7 at most (recordings
that the tower was trained with, and sounds that chose the method)."""

NEGATIVE_SHARE = 0.5
"""What a clip of `--not` may reach at most, as a share of what the clips of the label reach."""


def teach(
    labels: EmbeddedLabels | None, examples: Examples, pool: npt.NDArray[np.floating], *, text_tower: str
) -> EmbeddedLabels:
    """Return a label set that knows the taught labels of its examples, and no other taught ones.

    A label whose row changes loses its threshold, which was that of the old one.

    Args:
        labels: words, and perhaps labels taught before; None begins without any.
        examples: every clip that teaches a label.
        pool: (N, E) unit embeddings of other sounds.
        text_tower: SHA-256 of the text tower, see `EmbeddedLabels`.

    Raises:
        LabelError: there are too few other sounds.
    """
    if len(pool) < FEWEST_OTHERS:
        raise LabelError(
            f"{len(pool)} other sounds are known, and {FEWEST_OTHERS} are needed to tell what is special about a clip; "
            'give recordings of many different sounds: others="FOLDER"'
        )
    words, examples = _words_of(labels, examples)
    taught = list(dict.fromkeys(examples.where(kind="example").labels))
    counts = {name: len(examples.where(label=name, kind="example")) for name in taught}
    word_rows = {label.name: row for label, row in words}
    every = [replace(label, examples=counts.get(label.name, 0)) for label, _ in words]
    every += [Label(name, (), examples=counts[name]) for name in taught if name not in word_rows]
    placed = _Placer(np.asarray(pool, np.float64), list(word_rows.values()))
    rows, offsets = [], []
    for label in every:
        word = word_rows.get(label.name)
        row, offset = placed.place(examples, label.name, word) if label.examples or word is None else (word, 0.0)
        rows.append(row)
        offsets.append(offset)
    matrix = np.array(rows)
    scales = np.array(
        [np.linalg.norm(row) if label.examples else 1.0 for label, row in zip(every, matrix, strict=True)]
    )
    placement = Placement(scales.astype(np.float32), np.array(offsets, np.float32)) if taught else None
    embeddings = np.asarray(matrix / scales[:, None], np.float32)
    made = EmbeddedLabels(
        LabelSet(tuple(every)),
        embeddings,
        text_tower,
        1.0 if labels is None else labels.temperature,
        placement=placement,
        examples=examples,
    )
    made = append_novelty(made)
    return made if labels is None else _with_thresholds(made, labels)


def _with_thresholds(made: EmbeddedLabels, before: EmbeddedLabels) -> EmbeddedLabels:
    """Return a label set with the thresholds of those labels whose rows are as before."""
    known = {label.name: (at, label) for at, label in enumerate(before.label_set.labels)}
    every = []
    for at, label in enumerate(made.label_set.labels):
        place, old = known.get(label.name, (0, None))
        same = old is not None and _row(made, at) == _row(before, place)
        every.append(replace(label, threshold=old.threshold if old is not None and same else None))
    return replace(made, label_set=LabelSet(tuple(every)), rejection=before.rejection)


def _row(labels: EmbeddedLabels, at: int) -> tuple[bytes, float, float]:
    """Return all that gives a label's similarities."""
    placement = labels.placement
    moved = (1.0, 0.0) if placement is None else (float(placement.scales[at]), float(placement.offsets[at]))
    return (labels.embeddings[at].tobytes(), *moved)


def _words_of(labels: EmbeddedLabels | None, examples: Examples) -> tuple[list[tuple[Label, Float64Array]], Examples]:
    """Return the labels that have words, with the embeddings of these, and the examples, which keep them too.

    The row of a label with words and clips holds both, so that its words are kept as an example of their own.
    """
    found: list[tuple[Label, Float64Array]] = []
    if labels is None:
        return found, examples
    for label, row in zip(labels.label_set.labels, labels.embeddings, strict=True):
        if not label.prompts:
            continue
        kept = examples.where(label=label.name, kind="words")
        if not len(kept) and len(examples.where(label=label.name, kind="example")):
            kept = Examples.of(row[None], label=label.name, kind="words", clips=("",))
            examples += kept
        found.append((label, (kept.vectors()[0] if len(kept) else row).astype(np.float64)))
    return found, examples


class _Placer:
    """Places labels among words, with a pool of other sounds."""

    def __init__(self, pool: Float64Array, words: Sequence[Float64Array]) -> None:
        """Measure the pool.

        Args:
            pool: (N, E) unit embeddings.
            words: unit embeddings of the words beside which taught labels stand.
        """
        self._mean = pool.mean(axis=0)
        centred = pool - self._mean
        variance = max(float((centred**2).mean()), np.finfo(np.float64).tiny)
        self._deviation = np.sqrt(variance)
        self._directions = centred / (np.sqrt(len(pool)) * self._deviation)
        self._inner = np.linalg.inv(RIDGE * np.eye(len(pool)) + self._directions @ self._directions.T)
        self._level = float(np.mean([word @ self._mean for word in words])) if len(words) else 0.0

    def place(self, examples: Examples, label: str, word: Float64Array | None = None) -> tuple[Float64Array, float]:
        """Return the row (E,) and the offset that give a label's similarity to any embedding, by clips and words."""
        row, offset = self._of_clips(examples, label)
        if word is None:
            return row, offset
        share = self._share_of_words(word, examples, label)
        return share * word + (1 - share) * row, (1 - share) * offset

    def _of_clips(self, examples: Examples, label: str) -> tuple[Float64Array, float]:
        """Return the row and the offset by clips alone."""
        own = examples.where(label=label, kind="example").vectors().astype(np.float64).mean(axis=0) - self._mean
        row = self._whitened(own)
        negatives = examples.where(label=label, kind="negative").vectors().astype(np.float64)
        if len(negatives):
            row = self._against(own, negatives.mean(axis=0) - self._mean)
        value = max(float(row @ own), np.finfo(np.float64).tiny)
        row *= SCALE / np.sqrt(np.linalg.norm(row) * value)
        return row, self._level + SHIFT - float(row @ self._mean)

    def _share_of_words(self, word: Float64Array, examples: Examples, label: str) -> float:
        """Return how much of a label's similarity is that of its words: the more, the better they fit its clips."""
        own = examples.where(label=label, kind="example").vectors().astype(np.float64).mean(axis=0) - self._mean
        spread = self._deviation * np.linalg.norm(self._directions @ word)
        fits = float(word @ own) / max(float(spread), np.finfo(np.float64).tiny)
        return WORDS_SHARE * float(np.interp(fits, WORDS_FIT, (0.0, 1.0)))

    def _whitened(self, direction: Float64Array) -> Float64Array:
        """Return a direction in the metric of the pool: the inverse of its covariance, by Woodbury's identity."""
        seen = self._inner @ (self._directions @ direction)
        return np.asarray((direction - self._directions.T @ seen) / RIDGE)

    def _against(self, own: Float64Array, other: Float64Array) -> Float64Array:
        """Return the direction of a label of which another sound reaches `NEGATIVE_SHARE` at most."""
        row, its = self._whitened(own), self._whitened(other)
        excess = row @ other - NEGATIVE_SHARE * (row @ own)
        room = its @ other - NEGATIVE_SHARE * (its @ own)
        return np.asarray(row - its * (excess / room)) if excess > 0 and room > 0 else row
