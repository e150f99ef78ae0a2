"""The figures of one variant, from its embeddings and the true labels."""

from collections.abc import Sequence

import msgspec
import numpy as np

from clapedge.arrays import Float32Array
from clapedge.errors import LabelError
from clapedge.labels import EmbeddedLabels
from clapedge.scoring.similarity import probabilities, similarities
from clapedge_calib import metrics
from clapedge_calib.dataset import class_name
from clapedge_calib.metrics import IntArray, Share

TOP = 5


class ClassFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one class.

    Attributes:
        recall: share of its clips for which it was predicted.
        precision: share of its predictions that are right; None if there are none.
        average_precision: area under its precision over recall.
        mistaken_for: the label that was predicted most often instead, or None.
    """

    label: str
    clips: int
    recall: Share
    precision: float | None
    average_precision: float
    mistaken_for: str | None


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How near a variant is to the reference.

    Attributes:
        reference: the variant that it is compared with.
        top1: share of clips with the same best label.
        rank: mean Spearman correlation of the labels' order.
        cosine_mean: of the embeddings.
        cosine_min: of the embeddings.
        score: largest difference of a probability.
    """

    reference: str
    top1: Share
    rank: float
    cosine_mean: float
    cosine_min: float
    score: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one variant over labelled clips.

    Attributes:
        mean_average_precision: over the classes that have clips.
        calibration_error: gap between confidence and accuracy (ECE).
        labels: rows and columns of `confusion`.
        confusion: how often the column's label was predicted for a clip of the row's.
    """

    variant: str
    clips: int
    top1: Share
    top5: Share
    mean_average_precision: float
    calibration_error: float
    classes: tuple[ClassFigures, ...]
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    agreement: Agreement | None = None


def truth_of(classes: Sequence[str], labels: EmbeddedLabels) -> IntArray:
    """Return the index of each clip's class among the labels; case and underscores make no difference.

    Raises:
        LabelError: a class is not a label.
    """
    places = {class_name(label.name).casefold(): place for place, label in enumerate(labels.label_set.labels)}
    missing = sorted({name for name in classes if name.casefold() not in places})
    if missing:
        raise LabelError(
            f"the label set lacks the classes {', '.join(missing[:8])}{' …' if len(missing) > 8 else ''}; "  # noqa: PLR2004
            "name its labels as the data set names its classes (their prompts may be any words)"
        )
    return np.array([places[name.casefold()] for name in classes], np.int64)


def evaluate(
    variant: str,
    embeddings: Float32Array,
    truth: IntArray,
    labels: EmbeddedLabels,
    *,
    logit_scale: float,
    reference: tuple[str, Float32Array] | None = None,
) -> Evaluation:
    """Measure a variant.

    Args:
        variant: its name.
        embeddings: (N, E) float32, unit rows.
        truth: (N,) index of each clip's label.
        labels: the labels; hidden ones compete like the others.
        logit_scale: the model's, see `Manifest.logit_scale`; the labels' temperature divides it.
        reference: name and embeddings of the variant that it is compared with.
    """
    similarity = similarities(embeddings, labels.embeddings)
    probability = probabilities(similarity, logit_scale / labels.temperature)
    names = tuple(label.name for label in labels.label_set.labels)
    rank = metrics.ranks(similarity, truth)
    counts = metrics.confusion(truth, similarity.argmax(axis=1), len(names))
    precisions = [metrics.average_precision(probability[:, i], truth == i) for i in range(len(names))]
    return Evaluation(
        variant=variant,
        clips=len(truth),
        top1=metrics.share(int((rank == 0).sum()), len(rank)),
        top5=metrics.share(int((rank < TOP).sum()), len(rank)),
        mean_average_precision=float(np.nanmean(precisions)),
        calibration_error=metrics.calibration_error(probability, truth),
        classes=tuple(_class_figures(i, names, counts, precisions[i]) for i in range(len(names)) if counts[i].sum()),
        labels=names,
        confusion=tuple(tuple(map(int, row)) for row in counts),
        agreement=None if reference is None else agreement(embeddings, *reference, labels, logit_scale=logit_scale),
    )


def agreement(
    embeddings: Float32Array, name: str, reference: Float32Array, labels: EmbeddedLabels, *, logit_scale: float
) -> Agreement:
    """Compare embeddings (N, E) with those of the reference of that name."""
    found, expected = (similarities(rows, labels.embeddings) for rows in (embeddings, reference))
    cosine = metrics.cosines(embeddings, reference)
    same = int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
    scale = logit_scale / labels.temperature
    moved = np.abs(probabilities(found, scale) - probabilities(expected, scale))
    return Agreement(
        reference=name,
        top1=metrics.share(same, len(found)),
        rank=metrics.rank_agreement(found, expected),
        cosine_mean=float(cosine.mean()),
        cosine_min=float(cosine.min()),
        score=float(moved.max()),
    )


def _class_figures(index: int, names: Sequence[str], counts: IntArray, average_precision: float) -> ClassFigures:
    """Return the figures of one class out of the confusion matrix."""
    row, predicted = counts[index], int(counts[:, index].sum())
    others = np.where(np.arange(len(row)) == index, 0, row)
    return ClassFigures(
        label=names[index],
        clips=int(row.sum()),
        recall=metrics.share(int(row[index]), int(row.sum())),
        precision=int(row[index]) / predicted if predicted else None,
        average_precision=average_precision,
        mistaken_for=names[int(others.argmax())] if others.any() else None,
    )
