"""A bundle and sounds of its device to an INT8 audio tower, judged by sounds that were held out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import onnx
from onnx import ModelProto

from clapedge.engine import Engine
from clapedge.errors import AudioError, ModelError, UsageError
from clapedge.labels import EmbeddedLabels, LabelSet
from clapedge.labels.loader import load_labels
from clapedge.model.bundle import Bundle
from clapedge_calib.calibration_data import Coverage, hear, split
from clapedge_calib.collect import Extremes, extremes, histograms
from clapedge_calib.dataset import Example
from clapedge_calib.evaluator import Figures, Judge
from clapedge_calib.graph_runner import latencies
from clapedge_calib.layers import Layer, find_layers
from clapedge_calib.mixed_precision import SENSITIVITY_SOUNDS, Probe, restore_fewest, sensitivities
from clapedge_calib.progress import Progress
from clapedge_calib.quantize import Scheme, Target, one_row, quantize_dynamic, quantize_static, tensorrt_faults
from clapedge_calib.ranges import Method, Range, check_percentile, choose
from clapedge_calib.report import Candidate, Report, machine, made_with
from clapedge_calib.smoothquant import FOLDING_SOUNDS, Tower, choose_folding
from clapedge_export.cpu_graph import for_cpu

SCHEMES: dict[Target, tuple[Scheme, ...]] = {"cpu": ("static", "dynamic"), "tensorrt": ("static",), "arm": ("static",)}
"""What is tried for a target; the fastest that holds is taken."""

LEAST_CALIBRATION, LEAST_TEST = 12, 4
"""Recordings below which ranges and figures are chance."""

MOST_RESTORED = 2
"""One layer in so many may be put back to float: with fewer left, little would be gained."""

WINDOWS = 4
"""Clips that are taken of a long recording to calibrate with."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to calibrate.

    Attributes:
        target: where the variant is to run; TensorRT and ARM get signed activations around zero.
        method: how the range of an activation is chosen, see `ranges.choose`.
        percentile: of the method of that name.
        max_drop: points of top-1 that the variant may lose.
        min_cosine: mean cosine with float32 that it must keep.
        samples: recordings to calibrate with, and to judge by, at most.
        seed: of the draw.
        test_folds: folds to judge by; without any, one recording in four of each class.
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
        """Refuse values that mean nothing."""
        check_percentile(self.percentile)
        if not self.max_drop >= 0:
            raise UsageError(f"max-drop is {self.max_drop}; give points from 0 on")
        if not 0 <= self.min_cosine <= 1:
            raise UsageError(f"min-cosine is {self.min_cosine}; give a number from 0 to 1")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came out: the report, the graph to install or None, and the ranges by tensor."""

    report: Report
    model: ModelProto | None
    ranges: Mapping[str, Range]


def calibrate(bundle: Bundle, examples: Sequence[Example], options: Options, *, progress: Progress) -> Outcome:
    """Make and judge INT8 audio towers; the bundle is only read.

    Args:
        bundle: holds the float32 audio tower.
        examples: recordings of the device.
        options: how.
        progress: takes how far it is.

    Raises:
        AudioError: too few recordings can be used.
        BundleError: the bundle has no float32 audio tower, or it cannot be run.
        LabelError: a class of the recordings is no label.
        ModelError: a graph breaks the rules of its target.
    """
    reference = onnx.load(bundle.path(bundle.file("audio", "fp32")))
    layers = find_layers(reference)
    calibration, test = _hear(bundle, examples, options, progress)
    judge = Judge(
        reference,
        test.sounds,
        _labels(bundle, test, options.label_file),
        logit_scale=bundle.manifest.logit_scale,
        max_drop=options.max_drop,
        min_cosine=options.min_cosine,
        progress=progress,
    )
    found = extremes(reference, layers, calibration.sounds, progress=progress)
    ranges = _ranges(reference, found, calibration, options, progress)
    probe = None  # methods that cut outliers off have nothing to fold
    if options.method == "minmax":
        probe = Probe(reference, calibration.sounds, most=FOLDING_SOUNDS)
    material = _Material(reference, layers, found, ranges, probe, options)
    towers = {scheme: material.tower(scheme, progress) for scheme in SCHEMES[options.target]}
    static = partial(material.build, "static", towers["static"])
    few = Probe(reference, calibration.sounds, most=SENSITIVITY_SOUNDS)
    alone = sensitivities(layers, static, few, progress=progress)
    ranked = [layer for layer, _ in alone]
    tried = [_try(scheme, ranked, material, tower, judge) for scheme, tower in towers.items()]
    candidates = _candidates(reference, tried, judge)
    best, chosen = _best(tried, candidates[1:], options.target)
    report = Report(
        model=bundle.manifest.model,
        weights=bundle.manifest.weights,
        candidates=candidates,
        sensitivities=tuple(each for _, each in alone),
        **_heard_facts(calibration, test),  # type: ignore[arg-type]
        **_facts(options, judge, best.figures, chosen),  # type: ignore[arg-type]
    )
    return Outcome(report, best.model if chosen.holds else None, ranges)


@dataclass(frozen=True, eq=False)
class _Material:
    """What every way to make the tower INT8 starts from."""

    reference: ModelProto
    layers: Sequence[Layer]
    found: Mapping[str, Extremes]
    ranges: Mapping[str, Range]
    probe: Probe | None
    options: Options

    def tower(self, scheme: Scheme, progress: Progress) -> Tower:
        """Return the float32 tower that is made INT8: with its outliers folded into weights where that pays."""
        if self.probe is None:
            return Tower(self.reference, self.ranges)
        quantize = partial(self.build, scheme, layers=self.layers)
        return choose_folding(self.reference, self.layers, self.found, quantize, self.probe, progress=progress)

    def build(self, scheme: Scheme, tower: Tower, layers: Sequence[Layer]) -> ModelProto:
        """Make layers of a float32 tower INT8."""
        if scheme == "dynamic":
            return quantize_dynamic(tower.model, layers)
        return quantize_static(tower.model, layers, tower.ranges, target=self.options.target)


@dataclass(frozen=True, eq=False)
class _Tried:
    """One way to make the tower INT8, as good as it got; `facts` are fields of `Candidate`."""

    name: str
    model: ModelProto
    figures: Figures
    facts: Mapping[str, object]


def _try(scheme: Scheme, ranked: Sequence[Layer], material: _Material, tower: Tower, judge: Judge) -> _Tried:
    """Make the tower INT8 in one way, putting layers back to float until it holds."""
    name, build = f"{scheme} int8", partial(material.build, scheme, tower)
    most = len(ranked) // MOST_RESTORED if material.options.restore else 0
    restored, figures, steps = restore_fewest(ranked, build, judge, name, most=most)
    model = build(ranked[restored:])
    if material.options.target == "cpu":  # what is installed is what is judged
        model = for_cpu(one_row(model))
        figures = judge.measure(model, name)
    onnx.checker.check_model(model, full_check=True)
    facts = {
        "int8_layers": len(ranked) - restored,
        "restored": tuple(layer.name for layer in ranked[:restored]),
        "steps": steps,
        "folding": tower.folding,
    }
    return _Tried(name, model, figures, facts)


def _candidates(reference: ModelProto, tried: Sequence[_Tried], judge: Judge) -> tuple[Candidate, ...]:
    """Time the towers, float32 first, and describe them."""
    every = (_Tried("fp32", reference, judge.reference, {"int8_layers": 0}), *tried)
    times = latencies([each.model for each in every], judge.sounds[0])
    return tuple(
        judge.candidate(each.name, each.model, each.figures, latency_ms=taken, **each.facts)
        for each, taken in zip(every, times, strict=True)
    )


def _best(tried: Sequence[_Tried], candidates: Sequence[Candidate], target: Target) -> tuple[_Tried, Candidate]:
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
    reference: ModelProto,
    found: Mapping[str, Extremes],
    calibration: Coverage,
    options: Options,
    progress: Progress,
) -> dict[str, Range]:
    """Choose the range of each activation: all of it, or by how often values occur."""
    if options.method == "minmax":
        return {name: each.whole for name, each in found.items()}
    counted = histograms(reference, found, calibration.sounds, progress=progress)
    return {
        name: choose(each, options.method, percentile=options.percentile, symmetric=options.target != "cpu")
        for name, each in counted.items()
    }


def _heard_facts(calibration: Coverage, test: Coverage) -> dict[str, object]:
    """Return what a report says of the recordings."""
    return {
        "calibration_recordings": calibration.recordings,
        "calibration_clips": len(calibration.sounds),
        "test_recordings": test.recordings,
        "test_clips": len(test.sounds),
        "left_out": (*calibration.left_out, *test.left_out),
    }


def _facts(options: Options, judge: Judge, figures: Figures, chosen: Candidate) -> dict[str, object]:
    """Return what a report says of the verdict and of how it came about."""
    return {
        "target": options.target,
        "method": options.method,
        "percentile": options.percentile if options.method == "percentile" else None,
        "seed": options.seed,
        "max_drop": options.max_drop,
        "min_cosine": options.min_cosine,
        "verdict": _verdict(chosen, judge.judged_by, options),
        "chosen": chosen.name if chosen.holds else None,
        "judged_by": judge.judged_by,
        "cosines": tuple(map(float, figures.cosines)),
        "changes": judge.changes(figures),
        "machine": machine(),
        "made_with": made_with(),
    }


def _verdict(best: Candidate, judged_by: str, options: Options) -> str:
    """Say in a sentence what came out."""
    lost = "" if best.drop is None else f", {best.drop:.2f} points of {judged_by} lost"
    found = f"mean cosine {best.cosine_mean:.5f}{lost}"
    if best.holds:
        left = f"{len(best.restored)} of {len(best.restored) + best.int8_layers} layers stay in float"
        return f"{best.name} holds: {found}; {left}."
    even = f"even with {len(best.restored)} layers in float, " if best.restored else ""
    remedy = "--method mse or percentile" if options.method == "minmax" else "--method minmax, which cuts nothing off"
    return (
        f"Refused: {even}{best.name} has {found}, where at least "
        f"{options.min_cosine:g} and at most {options.max_drop:g} points are asked for; try {remedy}."
    )


def _hear(
    bundle: Bundle, examples: Sequence[Example], options: Options, progress: Progress
) -> tuple[Coverage, Coverage]:
    """Read the recordings to calibrate with and those to judge by."""
    front_end = bundle.manifest.front_end
    parts = split(examples, samples=options.samples, seed=options.seed, test_folds=options.test_folds)
    calibration = hear(parts[0], front_end, windows=WINDOWS, progress=progress, step="reading to calibrate")
    test = hear(parts[1], front_end, windows=1, progress=progress, step="reading to judge")
    if calibration.recordings < LEAST_CALIBRATION or test.recordings < LEAST_TEST:
        faults = (*calibration.left_out, *test.left_out)
        raise AudioError(
            f"{calibration.recordings} recordings to calibrate with and {test.recordings} to judge by can be used, and "
            f"{LEAST_CALIBRATION} and {LEAST_TEST} are needed; add recordings of the device"
            + (f" (left out: {'; '.join(faults[:3])}{' …' if len(faults) > 3 else ''})" if faults else "")  # noqa: PLR2004
        )
    return calibration, test


def _labels(bundle: Bundle, test: Coverage, label_file: str | None) -> EmbeddedLabels | None:
    """Embed the labels that are scored against: those of a file, else the classes; None where there are neither."""
    classes = sorted({sound.example.label for sound in test.sounds if sound.example.label})
    if label_file is None and (len(classes) < 2 or not bundle.files("text")):  # noqa: PLR2004 - one class tells nothing
        return None
    with Engine.load(bundle.directory, provider="cpu", precision="fp32") as engine:
        if label_file is None:
            return engine.embed_labels(LabelSet.of(classes))
        return engine.embed_labels(load_labels(label_file, bundle=engine.bundle))
