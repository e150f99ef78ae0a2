"""A bundle and recordings of its device to an INT8 audio tower, evaluated with recordings that were held out."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import onnx
from onnx import ModelProto

from clapedge.engine import Engine
from clapedge.errors import AudioError, ClapEdgeWarning, ModelError, UsageError
from clapedge.labels import EmbeddedLabels
from clapedge.labels.loader import load_labels
from clapedge.model.bundle import Bundle
from clapedge.terminal import counted
from clapedge_calib.calibration_data import CalibrationData, read_clips, split, split_by_time
from clapedge_calib.collect import Extremes, count_values, measure_extremes
from clapedge_calib.dataset import Example
from clapedge_calib.evaluator import Evaluator, Figures
from clapedge_calib.graph_runner import embed, latencies
from clapedge_calib.layers import Layer, find_layers
from clapedge_calib.mixed_precision import SENSITIVITY_CLIPS, Probe, measure_sensitivities, restore_fewest
from clapedge_calib.progress import Steps
from clapedge_calib.quantize import Scheme, Target, one_row, quantize_dynamic, quantize_static, tensorrt_faults
from clapedge_calib.ranges import Method, Range, check_percentile, choose
from clapedge_calib.report import Candidate, Report, machine, made_with
from clapedge_calib.smoothquant import SMOOTHING_CLIPS, Tower, choose_smoothing
from clapedge_export.cpu_graph import for_cpu

SCHEMES: dict[Target, tuple[Scheme, ...]] = {"cpu": ("static", "dynamic"), "tensorrt": ("static",), "arm": ("static",)}
"""What is tried for a target; the fastest that holds is taken."""

LEAST_CALIBRATION, LEAST_TEST = 12, 4
"""Recordings below which ranges and figures are chance."""

MOST_RESTORED = 2
"""One layer in so many may be put back to float: with fewer left, little would be gained."""

WINDOWS = 4
"""Clips of a long recording to calibrate with."""


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """How to calibrate.

    Attributes:
        target: where the variant is to run; TensorRT and ARM get signed activations around zero.
        method: how the range of an activation is chosen, see `ranges.choose`.
        percentile: of the method of that name.
        max_drop: points of top-1 that the variant may lose.
        min_cosine: mean cosine with float32 that it must keep.
        samples: recordings to calibrate with, and to evaluate with, at most.
        seed: of the draw.
        test_folds: folds to evaluate with; without any, one recording in four of each class.
        label_file: label set to score against; None takes the classes' names.
        restore: whether layers may be put back to float until the variant holds.
    """

    target: Target = "cpu"
    method: Method = "minmax"
    percentile: float = 99.99
    max_drop: float = 1.0
    min_cosine: float = 0.99
    samples: int = 200
    seed: int = 0
    test_folds: Sequence[str] = ()
    label_file: str | None = None
    restore: bool = True

    def __post_init__(self) -> None:
        """Raise if a value is impossible."""
        check_percentile(self.percentile)
        if not self.max_drop >= 0:
            raise UsageError(f"max_drop is {self.max_drop:g}; use max_drop=0 or more")
        if not 0 <= self.min_cosine <= 1:
            raise UsageError(f"min_cosine is {self.min_cosine:g}; use a number from 0 to 1")


@dataclass(frozen=True, eq=False)
class Calibration:
    """The report, the graph to install or None, and the ranges by tensor."""

    report: Report
    model: ModelProto | None
    ranges: Mapping[str, Range]


def calibrate(bundle: Bundle, examples: Sequence[Example], options: CalibrationOptions) -> Steps[Calibration]:
    """Make and evaluate INT8 audio towers; the bundle is only read.

    Args:
        bundle: holds the float32 audio tower.
        examples: recordings of the device.
        options: how.

    Raises:
        AudioError: too few recordings can be used.
        BundleError: the bundle has no float32 audio tower, or it cannot be run.
        LabelError: a class of the recordings is not a label.
        ModelError: a graph breaks the rules of its target.
    """
    reference = onnx.load(bundle.path(bundle.file("audio", "fp32")))
    layers = find_layers(reference)
    calibration, test = yield from _read(bundle, examples, options)
    evaluator = Evaluator(
        (yield from embed(reference, test.clips, "embedding in fp32")),
        test.clips,
        _labels(bundle, test, options.label_file),
        logit_scale=bundle.manifest.logit_scale,
        max_drop=options.max_drop,
        min_cosine=options.min_cosine,
    )
    extremes = yield from measure_extremes(reference, layers, calibration.clips)
    ranges = yield from _ranges(reference, extremes, calibration, options)
    # methods that cut outliers off have nothing to smooth
    probe = Probe(reference, calibration.clips, most=SMOOTHING_CLIPS) if options.method == "minmax" else None
    quantizer = _Quantizer(reference, layers, extremes, ranges, probe, options)
    towers = {}
    for scheme in SCHEMES[options.target]:
        towers[scheme] = yield from quantizer.tower(scheme)
    static = partial(quantizer.build, "static", towers["static"])
    few = Probe(reference, calibration.clips, most=SENSITIVITY_CLIPS)
    sensitivities = yield from measure_sensitivities(layers, static, few)
    ranked = [layer for layer, _ in sensitivities]
    tried = []
    for scheme, tower in towers.items():
        tried.append((yield from _try(scheme, ranked, quantizer, tower, evaluator)))
    candidates = _candidates(reference, tried, evaluator)
    best, chosen = _best(tried, candidates[1:], options.target)
    report = Report(
        candidates=candidates,
        sensitivities=tuple(each for _, each in sensitivities),
        **_data_facts(bundle, calibration, test),  # type: ignore[arg-type]
        **_facts(options, evaluator, best.figures, chosen),  # type: ignore[arg-type]
    )
    return Calibration(report, best.model if chosen.holds else None, ranges)


@dataclass(frozen=True, eq=False)
class _Quantizer:
    """Makes the tower INT8 in either scheme, from what both start with."""

    reference: ModelProto
    layers: Sequence[Layer]
    extremes: Mapping[str, Extremes]
    ranges: Mapping[str, Range]
    probe: Probe | None
    options: CalibrationOptions

    def tower(self, scheme: Scheme) -> Steps[Tower]:
        """Return the float32 tower that is made INT8, smoothed where that pays."""
        if self.probe is None:
            return Tower(self.reference, self.ranges)
        quantize = partial(self.build, scheme, layers=self.layers)
        return (yield from choose_smoothing(self.reference, self.layers, self.extremes, quantize, self.probe))

    def build(self, scheme: Scheme, tower: Tower, layers: Sequence[Layer]) -> ModelProto:
        """Make layers of a float32 tower INT8."""
        if scheme == "dynamic":
            return quantize_dynamic(tower.model, layers)
        return quantize_static(tower.model, layers, tower.ranges, target=self.options.target)


@dataclass(frozen=True, eq=False)
class _Variant:
    """The best tower of one scheme; `facts` are fields of `Candidate`."""

    name: str
    model: ModelProto
    figures: Figures
    facts: Mapping[str, object]


def _try(
    scheme: Scheme, ranked: Sequence[Layer], quantizer: _Quantizer, tower: Tower, evaluator: Evaluator
) -> Steps[_Variant]:
    """Make the tower INT8 in one scheme, putting layers back to float until it holds."""
    name, build = f"{scheme} int8", partial(quantizer.build, scheme, tower)
    most = len(ranked) // MOST_RESTORED if quantizer.options.restore else 0
    restored, figures, steps = yield from restore_fewest(ranked, build, evaluator, name, most=most)
    model = build(ranked[restored:])
    if quantizer.options.target == "cpu":  # what is evaluated is what will be installed
        model = for_cpu(one_row(model))
        figures = yield from evaluator.measure(model, name)
    onnx.checker.check_model(model, full_check=True)
    facts = {
        "int8_layers": len(ranked) - restored,
        "restored": tuple(layer.name for layer in ranked[:restored]),
        "steps": steps,
        "smoothing": tower.smoothing,
    }
    return _Variant(name, model, figures, facts)


def _candidates(reference: ModelProto, tried: Sequence[_Variant], evaluator: Evaluator) -> tuple[Candidate, ...]:
    """Time the towers, float32 first, and describe them."""
    every = (_Variant("fp32", reference, evaluator.reference, {"int8_layers": 0}), *tried)
    times = latencies([each.model for each in every], evaluator.clips[0])
    return tuple(
        evaluator.candidate(each.name, each.model, each.figures, latency_ms=taken, **each.facts)
        for each, taken in zip(every, times, strict=True)
    )


def _best(tried: Sequence[_Variant], candidates: Sequence[Candidate], target: Target) -> tuple[_Variant, Candidate]:
    """Return the fastest that holds, or the fastest if none does.

    Raises:
        ModelError: it breaks the rules of its target.
    """
    both = zip(tried, candidates, strict=True)
    best, chosen = min(both, key=lambda pair: (not pair[1].holds, pair[1].latency_ms))
    if target != "cpu" and (faults := tensorrt_faults(best.model)):
        raise ModelError(f"the INT8 tower breaks TensorRT's rules ({faults[0]}); export the bundle again")
    return best, chosen


def _ranges(
    reference: ModelProto, extremes: Mapping[str, Extremes], calibration: CalibrationData, options: CalibrationOptions
) -> Steps[dict[str, Range]]:
    """Choose the range of each activation: all of it, or by how often values occur."""
    if options.method == "minmax":
        return {name: each.whole for name, each in extremes.items()}
    counted = yield from count_values(reference, extremes, calibration.clips)
    return {
        name: choose(each, options.method, percentile=options.percentile, symmetric=options.target != "cpu")
        for name, each in counted.items()
    }


def _data_facts(bundle: Bundle, calibration: CalibrationData, test: CalibrationData) -> dict[str, object]:
    """Return the facts of a report about the model and the recordings."""
    return {
        "model": bundle.manifest.model,
        "weights": bundle.manifest.weights,
        "calibration_recordings": calibration.recordings,
        "calibration_clips": len(calibration.clips),
        "test_recordings": test.recordings,
        "test_clips": len(test.clips),
        "left_out": (*calibration.left_out, *test.left_out),
    }


def _facts(options: CalibrationOptions, evaluator: Evaluator, figures: Figures, chosen: Candidate) -> dict[str, object]:
    """Return the facts of a report about the verdict and how it was reached."""
    return {
        "target": options.target,
        "method": options.method,
        "percentile": options.percentile if options.method == "percentile" else None,
        "seed": options.seed,
        "max_drop": options.max_drop,
        "min_cosine": options.min_cosine,
        "verdict": _verdict(chosen, evaluator.criterion, options),
        "chosen": chosen.name if chosen.holds else None,
        "judged_by": evaluator.criterion,
        "cosines": tuple(map(float, figures.cosines)),
        "changes": evaluator.changes(figures),
        "machine": machine(),
        "made_with": made_with(),
    }


def _verdict(best: Candidate, criterion: str, options: CalibrationOptions) -> str:
    """Return the result in a sentence."""
    lost = "" if best.drop is None else f", {best.drop:.2f} points of {criterion} lost"
    found = f"mean cosine {best.cosine_mean:.5f}{lost}"
    if best.holds:
        left = f"{len(best.restored)} of {len(best.restored) + best.int8_layers} layers stay in float"
        return f"{best.name} holds: {found}; {left}."
    even = f"even with {len(best.restored)} layers in float, " if best.restored else ""
    remedy = "mse or percentile" if options.method == "minmax" else "minmax, which cuts nothing off"
    return (
        f"Refused: {even}{best.name} has {found}, where at least "
        f"{options.min_cosine:g} and at most {options.max_drop:g} points are required; try {remedy}."
    )


def _read(
    bundle: Bundle, examples: Sequence[Example], options: CalibrationOptions
) -> Steps[tuple[CalibrationData, CalibrationData]]:
    """Read the recordings to calibrate with and those to evaluate with."""
    front_end = bundle.manifest.front_end
    parts = split(examples, samples=options.samples, seed=options.seed, test_folds=options.test_folds)
    if not _suffice(parts) and not options.test_folds:
        windows = split_by_time(examples, samples=options.samples, clip_seconds=front_end.clip_seconds)
        if _suffice(windows):
            parts = windows
            warnings.warn(_describe_windows(examples, windows), ClapEdgeWarning, stacklevel=2)
    calibration = yield from read_clips(parts[0], front_end, windows=WINDOWS, step="reading to calibrate")
    test = yield from read_clips(parts[1], front_end, windows=1, step="reading to evaluate")
    if calibration.recordings < LEAST_CALIBRATION or test.recordings < LEAST_TEST:
        faults = (*calibration.left_out, *test.left_out)
        raise AudioError(
            f"{calibration.recordings} recordings to calibrate with and {test.recordings} to evaluate with can be "
            f"used, and {LEAST_CALIBRATION} and {LEAST_TEST} are needed; add recordings of the device"
            + (f" (left out: {'; '.join(faults[:3])}{' …' if len(faults) > 3 else ''})" if faults else "")  # noqa: PLR2004
        )
    return calibration, test


def _suffice(parts: tuple[Sequence[Example], Sequence[Example]]) -> bool:
    """Return whether there is enough to calibrate and to evaluate with, if all of it can be used."""
    return len(parts[0]) >= LEAST_CALIBRATION and len(parts[1]) >= LEAST_TEST


def _describe_windows(examples: Sequence[Example], parts: tuple[Sequence[Example], Sequence[Example]]) -> str:
    """Return the note that windows are used in place of recordings."""
    few = counted(len(examples), "recording is", nouns="recordings are")
    return (
        f"{few} too few to hold some of them out, so clips of them are used: "
        f"{len(parts[0])} to calibrate with, and {len(parts[1])} of the last quarter of each to evaluate with; "
        "recordings of other days would tell more"
    )


def _labels(bundle: Bundle, test: CalibrationData, label_file: str | None) -> EmbeddedLabels | None:
    """Embed the labels of a label set, or else the classes; return None if there are neither."""
    classes = sorted({clip.example.label for clip in test.clips if clip.example.label})
    if label_file is None and (len(classes) < 2 or not bundle.files("text")):  # noqa: PLR2004 - one class cannot be mistaken
        return None
    with Engine.load(bundle.directory, provider="cpu", precision="fp32") as engine:
        return engine.embed_labels(classes if label_file is None else load_labels(label_file, bundle=bundle))
