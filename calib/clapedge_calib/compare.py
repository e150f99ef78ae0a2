"""The variants of a bundle, compared over one data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clapedge.engine import Engine
from clapedge.errors import BundleError, UsageError
from clapedge.features.fusion import Fusion
from clapedge.labels import EmbeddedLabels
from clapedge.labels.loader import load_labels
from clapedge.model.bundle import Bundle, Variant
from clapedge.model.providers import ProviderWish
from clapedge.pipeline import RecordingOptions
from clapedge_calib.dataset import Example, classes_of
from clapedge_calib.embed import EmbeddedExamples, embed_examples
from clapedge_calib.evaluation import Evaluation, evaluate, truth_of
from clapedge_calib.leakage import warn_of_leakage
from clapedge_calib.progress import Steps


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared, and how.

    Attributes:
        bundle: its directory; None means the default bundle.
        variants: the first is the reference of the others.
        label_file: file or name of a label set that holds the classes; None makes one of their names.
        work: directory that keeps embeddings; None keeps none.
        provider: where to run.
        fusion: which clips are fused, see `ClipOptions`.
        options: which part of a recording is read and how it becomes clips.
    """

    bundle: str | None
    variants: Sequence[Variant]
    label_file: str | None = None
    work: Path | None = None
    provider: ProviderWish = "auto"
    fusion: Fusion = "long"
    options: RecordingOptions

    def engine(self, variant: Variant) -> Engine:
        """Load a variant with one thread, since recordings share the cores between them.

        What a variant is worth here is the question, so that none is refused.
        """
        return Engine.load(
            self.bundle, provider=self.provider, precision=variant, threads=1, fusion=self.fusion, self_check=False
        )

    def labels(self, engine: Engine, classes: Sequence[str]) -> EmbeddedLabels:
        """Embed the label set."""
        if self.label_file is None:
            return engine.embed_labels(sorted(set(classes)))
        return engine.embed_labels(load_labels(self.label_file, bundle=engine.bundle))


def chosen_variants(bundle: str | None, names: str) -> list[Variant]:
    """Return the variants of a list such as `int8,fp32`, or `all`; fp32 first.

    Raises:
        BundleError: the bundle does not hold one of them.
    """
    present = Bundle.open(bundle).variants("audio")
    wanted = list(present) if names == "all" else [part.strip() for part in names.split(",") if part.strip()]
    unknown = [name for name in wanted if name not in present]
    if unknown or not wanted:
        raise BundleError(
            f"the bundle holds no audio tower in {', '.join(unknown) or 'no precision'} "
            f"(it holds {', '.join(present)}); name one of these"
        )
    chosen = [name for name in present if name in wanted]
    return sorted(chosen, key=lambda name: name != "fp32")


def compare(comparison: Comparison, examples: Sequence[Example]) -> Steps[tuple[list[Evaluation], list[str]]]:
    """Measure every variant over the recordings that all of them could read.

    Returns:
        The figures of each variant, and one sentence for each recording that could not be read.

    Raises:
        UsageError: a recording has no class, or none could be read.
        LabelError: a class is not a label.
    """
    classes = classes_of(examples)
    with comparison.engine(comparison.variants[0]) as engine:
        labels = comparison.labels(engine, classes)
        scale = engine.bundle.manifest.logit_scale
        warn_of_leakage(engine.bundle.manifest, examples)
    truth = truth_of(classes, labels)
    embedded: dict[Variant, EmbeddedExamples] = {}
    for variant in comparison.variants:
        with comparison.engine(variant) as engine:
            embedded[variant] = yield from embed_examples(engine, examples, comparison.options, work=comparison.work)
    failures = {place: text for each in embedded.values() for place, text in each.failures.items()}
    kept = [place for place in range(len(examples)) if place not in failures]
    if not kept:
        raise UsageError(f"none of the {len(examples)} recordings could be read ({next(iter(failures.values()))})")
    first, *_ = rows = {name: np.stack([each.rows[place] for place in kept]) for name, each in embedded.items()}
    evaluations = [
        evaluate(
            name,
            rows[name],
            truth[kept],
            labels,
            logit_scale=scale,
            reference=None if name == first else (first, rows[first]),
        )
        for name in rows
    ]
    return evaluations, [failures[place] for place in sorted(failures)]
