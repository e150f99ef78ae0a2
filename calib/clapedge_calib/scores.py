"""Scores fitted to labelled recordings: a temperature for the softmax, and a threshold for each label."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.engine import Engine
from clapedge.errors import AudioError
from clapedge.labels import EmbeddedLabels, LabelSet
from clapedge.scoring.similarity import probabilities, similarities
from clapedge_calib.dataset import Example, classes_of
from clapedge_calib.embed import embed_examples
from clapedge_calib.evaluation import truth_of
from clapedge_calib.leakage import warn_of_leakage
from clapedge_calib.metrics import IntArray, calibration_error
from clapedge_calib.progress import Steps

TEMPERATURES = np.logspace(-1.5, 1.5, 301)
"""Those that are tried: from 0.03 to 32, 2.3 % apart, which changes no probability by more than a hundredth."""

LEAST_CLIPS = 20
"""Recordings below which a temperature is chance."""


@dataclass(frozen=True, eq=False)
class FittedScores:
    """A label set with its temperature and thresholds, and their effect over recordings that were held out.

    Attributes:
        labels: the set; it has the new temperature only if that lowers the error.
        temperature: the fitted one.
        before: expected calibration error without it.
        after: the same with it.
        failures: one sentence for each recording that could not be read.
    """

    labels: EmbeddedLabels
    temperature: float
    before: float
    after: float
    failures: tuple[str, ...]


def fit_scores(
    engine: Engine, labels: EmbeddedLabels, fit: Sequence[Example], test: Sequence[Example]
) -> Steps[FittedScores]:
    """Fit a label set to recordings, and measure with others.

    Raises:
        AudioError: too few recordings could be read.
        LabelError: a class is not a label.
        UsageError: a recording has no class.
    """
    examples = [*fit, *test]
    truth = truth_of(classes_of(examples), labels)
    warn_of_leakage(engine.bundle.manifest, examples)
    embedded = yield from embed_examples(engine, examples, {})
    read = sorted(embedded.rows)
    known, unknown = [place for place in read if place < len(fit)], [place for place in read if place >= len(fit)]
    if len(known) < LEAST_CLIPS or not unknown:
        raise AudioError(f"{len(read)} labelled recordings can be used, too few to fit; give {2 * LEAST_CLIPS} or more")
    scale = engine.bundle.manifest.logit_scale
    similarity = {place: similarities(embedded.rows[place][None], labels.embeddings)[0] for place in read}
    fitted, held = (np.stack([similarity[place] for place in places]) for places in (known, unknown))
    temperature = fit_temperature(fitted, truth[known], logit_scale=scale)
    before, after = (
        calibration_error(probabilities(held, scale / divisor), truth[unknown])
        for divisor in (labels.temperature, temperature)
    )
    thresholds = fit_thresholds(fitted, truth[known])
    kept = tuple(
        label if limit is None else replace(label, threshold=limit)
        for label, limit in zip(labels.label_set.labels, thresholds, strict=True)
    )
    found = replace(labels, label_set=LabelSet(kept), temperature=temperature if after < before else labels.temperature)
    return FittedScores(
        found, temperature, before, after, tuple(embedded.failures[place] for place in sorted(embedded.failures))
    )


def fit_temperature(similarity: Float32Array, truth: IntArray, *, logit_scale: float) -> float:
    """Return the temperature with the least negative log-likelihood (Guo et al. 2017).

    Args:
        similarity: (N, labels).
        truth: (N,) index of the true label.
        logit_scale: the model's; logits are divided by the temperature.
    """

    def loss(temperature: float) -> float:
        right = probabilities(similarity, logit_scale / temperature)[np.arange(len(truth)), truth]
        return float(-np.log(np.maximum(right, np.finfo(np.float64).tiny)).mean())

    return float(min(TEMPERATURES, key=loss))


def fit_thresholds(similarity: Float32Array, truth: IntArray) -> list[float | None]:
    """Return for each label the similarity that separates its clips from others with the largest F1, or None."""
    return [
        _threshold(similarity[:, label], truth == label) if (truth == label).any() else None
        for label in range(similarity.shape[1])
    ]


def _threshold(similarity: Float32Array, own: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    """Return the threshold with the largest F1, half way between the clips that it separates."""
    order = np.argsort(-similarity, kind="stable")
    hits = np.cumsum(own[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + own.sum())
    values = similarity[order].astype(np.float64)
    ends = np.append(np.diff(values) != 0, True)  # a threshold cannot separate equal similarities
    best = int(np.argmax(np.where(ends, f1, -1.0)))
    below = values[best + 1] if best + 1 < len(values) else values[best] - 0.01
    return float(np.clip((values[best] + below) / 2, -1.0, 1.0))
