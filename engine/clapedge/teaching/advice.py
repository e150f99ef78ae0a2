"""Advice on taught labels: which cannot be distinguished, and which clip is the odd one."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from clapedge.labels import EmbeddedLabels
from clapedge.labels.examples import Examples
from clapedge.labels.prompt_rules import Advice
from clapedge.scoring.similarity import similarities

CONFUSED_SHARE = 1 / 3
"""Share of a label's clips that fit another label better, from which the two cannot be distinguished."""

FEWEST_CLIPS = 3
"""Clips from which on one of them can be the odd one."""

ODD_COSINE = 0.25
"""How much less than the others a clip resembles the rest of its label, to be the odd one: 99 of 100 clips of a sound
differ by 0.23 or less, 95 of 100 of another sound by 0.29 or more (demo model, sounds that chose the method)."""


def check_taught(labels: EmbeddedLabels) -> tuple[Advice, ...]:
    """Look for taught labels that cannot be distinguished, and for clips that do not fit their label or count twice."""
    examples = labels.examples
    if examples is None:
        return ()
    found: list[Advice] = []
    for label in labels.label_set.labels:
        if label.examples:
            own = examples.where(label=label.name, kind="example")
            found += _confused(labels, label.name, own)
            found += _odd(label.name, own)
            found += _same(label.name, own)
    return tuple(found)


def _confused(labels: EmbeddedLabels, name: str, own: Examples) -> Iterator[Advice]:
    """Find another label that fits the clips of a label better."""
    names = [label.name for label in labels.label_set.labels]
    scores = similarities(own.vectors(), labels.embeddings)
    if labels.placement is not None:
        scores = labels.placement.similarities(scores)
    counts = Counter(names[best] for best in scores.argmax(axis=1).tolist())
    for other, count in counts.most_common():
        if other != name and count >= CONFUSED_SHARE * len(own):
            yield Advice(
                "taught",
                (name, other),
                f"{count} of {len(own)} clips of {name!r} fit {other!r} better",
                "the two cannot be distinguished by their clips, so their order is chance",
                f"make them one label, remove {other!r}, or give clips in which they differ",
            )


def _odd(name: str, own: Examples) -> Iterator[Advice]:
    """Find clips that resemble the others of their label far less than these resemble each other."""
    if len(own) < FEWEST_CLIPS:
        return
    rows = own.vectors()
    rest = rows.sum(axis=0) - rows
    nearness = (rows * rest).sum(axis=1) / np.maximum(np.linalg.norm(rest, axis=1), np.finfo(np.float32).tiny)
    for at in np.flatnonzero(nearness < np.median(nearness) - ODD_COSINE).tolist():
        yield Advice(
            "odd",
            (name,),
            f"{own.clips[at]} is unlike the other clips of {name!r} (cosine {nearness[at]:.2f})",
            "a clip of another sound draws the label towards that sound",
            f"listen to it; if it is something else: clapedge teach {name!r} {own.clips[at]!r} --forget",
        )


def _same(name: str, own: Examples) -> Iterator[Advice]:
    """Find clips that are the same sound as one before them, which an earlier lesson had by another name."""
    first: dict[bytes, str] = {}
    for row, clip in zip(own.rows, own.clips, strict=True):
        known = first.setdefault(row.tobytes(), clip)
        if known != clip:
            yield Advice(
                "same",
                (name,),
                f"{clip} is the same sound as {known}, which teaches {name!r} already",
                "what is given twice counts twice, and shows nothing new",
                f"take it out: clapedge teach {name!r} {clip!r} --forget",
            )
