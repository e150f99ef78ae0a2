"""Novelty: how unlike the background of a site a sound is, for those who have no words for what may come.

It is one less the cosine to the nearest of some windows of that background, chosen so that they cover it: a greedy
k-centre coreset, as PatchCore keeps of normal pictures (Roth et al. 2022). Rare sounds of the site are among them.
"""

from dataclasses import replace

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.errors import LabelError
from clapedge.labels import NOVELTY, EmbeddedLabels, Label, LabelSet
from clapedge.labels.examples import Examples
from clapedge.labels.placement import Placement

MOST_CENTRES = 128
"""Windows that are kept, 64 kB of 512 numbers; 256 found no more than 64 (sounds that chose the method)."""


def with_novelty(labels: EmbeddedLabels | None, background: Float32Array, *, text_tower: str) -> EmbeddedLabels:
    """Return labels and, beside them, novelty against a background; it replaces an older one.

    Args:
        labels: the labels; None makes a set of novelty alone.
        background: (N, E) unit embeddings of windows of the site.
        text_tower: SHA-256 of the text tower, see `EmbeddedLabels`.

    Raises:
        LabelError: another label has the name.
    """
    centres = Examples.of(diverse(background, MOST_CENTRES), label=NOVELTY, kind="background", clips=())
    centres = replace(centres, clips=("",) * len(centres))
    if labels is not None:
        labels = _without_novelty(labels)
    if labels is None:
        label, row = _label(centres)
        return EmbeddedLabels(LabelSet((label,)), row, text_tower, examples=centres)
    kept = labels.examples
    return append_novelty(replace(labels, examples=centres if kept is None else _others(kept) + centres))


def append_novelty(labels: EmbeddedLabels) -> EmbeddedLabels:
    """Return labels and, beside them, the novelty of the background that is among their examples, if there is any."""
    known = None if labels.examples is None else labels.examples.where(kind="background")
    if known is None or not len(known):
        return labels
    label, row = _label(known)
    placement = labels.placement
    if placement is not None:
        placement = Placement(np.append(placement.scales, np.float32(1)), np.append(placement.offsets, np.float32(0)))
    label_set = LabelSet((*labels.label_set.labels, label))
    rows = np.concatenate([labels.embeddings, row])
    return replace(labels, label_set=label_set, embeddings=rows, placement=placement)


def diverse(rows: Float32Array, most: int) -> Float32Array:
    """Return rows of unit embeddings (N, E) that are far from each other, beginning with the one nearest to their mean.

    Each next one has the least cosine to its nearest neighbour among those that were chosen before.
    """
    chosen = [int((rows @ rows.mean(axis=0)).argmax())]
    near = rows @ rows[chosen[0]]
    while len(chosen) < min(most, len(rows)):
        chosen.append(int(near.argmin()))
        near = np.maximum(near, rows @ rows[chosen[-1]])
    return rows[chosen]


def _label(centres: Examples) -> tuple[Label, Float32Array]:
    """Return the label, and the row (1, E) that stands for it where rows are compared: opposite to the background."""
    mean = centres.vectors().mean(axis=0)
    row = -mean / max(float(np.linalg.norm(mean)), float(np.finfo(np.float32).tiny))
    return Label(NOVELTY, (), examples=len(centres)), row[None].astype(np.float32)


def _others(examples: Examples) -> Examples:
    """Return the examples that are not of the background."""
    return examples.take(at for at, kind in enumerate(examples.kinds) if kind != "background")


def _without_novelty(labels: EmbeddedLabels) -> EmbeddedLabels | None:
    """Return labels without novelty, or None if it is the only one.

    Raises:
        LabelError: another label has its name.
    """
    every = labels.label_set.labels
    kept = [at for at, label in enumerate(every) if label.name != NOVELTY]
    if len(kept) < len(every) and not (labels.examples and len(labels.examples.where(kind="background"))):
        raise LabelError(f"a label is called {NOVELTY!r}, as what is unlike the background is; give it another name")
    if not kept:
        return None
    placement = labels.placement
    if placement is not None:
        placement = Placement(placement.scales[kept], placement.offsets[kept])
    label_set = LabelSet(tuple(every[at] for at in kept))
    return replace(labels, label_set=label_set, embeddings=labels.embeddings[kept], placement=placement)
