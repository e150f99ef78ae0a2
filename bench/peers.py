"""The candidates of `bench_peers.py`: ways to embed a clip, and ways to score a recording."""

import itertools
import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clapedge.arrays import Float32Array
from material import BUNDLE, CALIBRATED, CHECKPOINT, LABEL_FILE, LABELS, PLAIN, RECORDING, clips
from turns import Candidate, Prepare

EAGER, COMPILED, PLAIN_GRAPH = "transformers, eager", "transformers, torch.compile", "ONNX Runtime, plain export"
OPENVINO_PLAIN, OPENVINO, OPENVINO_BF16, OPENVINO_INT8 = (
    "OpenVINO FP32, plain export",
    "OpenVINO FP32, our graph",
    "OpenVINO BF16, our graph",
    "OpenVINO INT8 (NNCF), our graph",
)
OURS, OURS_INT8 = "clapedge FP32", "clapedge INT8"
PIPELINE = "transformers, zero-shot-audio pipeline"


def threads() -> int:
    """Return the number of threads that this run gives to each candidate."""
    return int(os.environ["OMP_NUM_THREADS"])


def each_in_turn(embed: Callable[[Float32Array], Any], *, channels: int = 4) -> Candidate:
    """Return a call that embeds the next of the clips: (1, channels, 1001, 64) dB to (512,), unit norm."""
    features = clips()[:, :channels]
    turn = itertools.cycle(np.ascontiguousarray(features[i : i + 1]) for i in range(len(features)))

    def run() -> Float32Array:
        row = np.asarray(embed(next(turn)), np.float32).reshape(-1)
        unit: Float32Array = row / np.linalg.norm(row)
        return unit

    return run


def transformers_tower(material: Path, *, compiled: bool) -> Candidate:
    """Prepare `get_audio_features`, as it is or compiled."""
    import torch
    from transformers import ClapModel

    torch.set_num_threads(threads())
    model = ClapModel.from_pretrained(material / CHECKPOINT)
    model.train(mode=False)
    embed: Any = torch.compile(model.get_audio_features) if compiled else model.get_audio_features
    not_longer = torch.zeros(1, dtype=torch.bool)

    @torch.inference_mode()
    def run(features: Float32Array) -> Any:  # noqa: ANN401 - an array or what becomes one
        return embed(input_features=torch.from_numpy(features), is_longer=not_longer).pooler_output.numpy()

    return each_in_turn(run)


def plain_graph(material: Path) -> Candidate:
    """Prepare ONNX Runtime on what PyTorch exports of transformers' own module."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads(), 3
    session = onnxruntime.InferenceSession(material / PLAIN, options, providers=["CPUExecutionProvider"])
    (name,) = (node.name for node in session.get_inputs())
    return each_in_turn(lambda features: session.run(None, {name: features})[0], channels=1)


def openvino(material: Path, *, graph: str, precision: str) -> Candidate:
    """Prepare OpenVINO, latency first, on a graph: arithmetic in `f32` or `bf16`, or as the graph says."""
    from openvino import Core

    core = Core()
    model = core.read_model(material / graph)
    channels = 1 if graph == PLAIN else 4
    shapes = {"input_features": [1, 4, 1001, 64], "is_longer": [1]}
    if channels > 1:
        model.reshape(shapes)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads(),
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    fixed = [np.zeros(1, bool)] if channels > 1 else []
    return each_in_turn(lambda features: request.infer([features, *fixed])[0], channels=channels)


def clapedge_tower(material: Path, *, variant: str) -> Candidate:
    """Prepare our tower."""
    from clapedge.model.towers import AudioTower

    tower = AudioTower(material / BUNDLE / f"audio.{variant}.onnx", threads=threads())
    return each_in_turn(lambda features: tower.embed(features, np.zeros(1, bool)))


def transformers_pipeline(material: Path) -> Candidate:
    """Prepare the pipeline: a file to the probabilities of the labels."""
    import torch
    from transformers import pipeline

    torch.set_num_threads(threads())
    classify: Any = pipeline("zero-shot-audio-classification", model=str(material / CHECKPOINT))
    path = str(material / RECORDING)
    return lambda: in_order({row["label"]: row["score"] for row in classify(path, candidate_labels=list(LABELS))})


def clapedge_engine(material: Path, *, variant: Any) -> Candidate:  # noqa: ANN401 - a literal type of the engine
    """Prepare the engine: a file to the probabilities of the labels.

    The pipeline always fuses a lone short clip, so that this one does, too.
    """
    from clapedge import Engine

    warnings.simplefilter("ignore")
    engine = Engine.load(material / BUNDLE, precision=variant, threads=threads(), fusion="always")
    path, labels = material / RECORDING, engine.stored_labels(Path(LABEL_FILE).stem)
    return lambda: in_order({label.name: label.probability for label in engine.score(path, labels).labels})


def in_order(probabilities: dict[str, float]) -> Sequence[float]:
    """Return the probabilities in the order of the labels."""
    return [probabilities[label] for label in LABELS]


TOWERS: dict[str, Prepare] = {
    EAGER: partial(transformers_tower, compiled=False),
    COMPILED: partial(transformers_tower, compiled=True),
    PLAIN_GRAPH: plain_graph,
    OPENVINO_PLAIN: partial(openvino, graph=PLAIN, precision="f32"),
    OPENVINO: partial(openvino, graph=f"{BUNDLE}/audio.fp32.onnx", precision="f32"),
    OPENVINO_BF16: partial(openvino, graph=f"{BUNDLE}/audio.fp32.onnx", precision="bf16"),
    OPENVINO_INT8: partial(openvino, graph=CALIBRATED, precision="f32"),
    OURS: partial(clapedge_tower, variant="fp32"),
    OURS_INT8: partial(clapedge_tower, variant="int8"),
}
"""A clip to an embedding."""

SCORERS: dict[str, Prepare] = {
    PIPELINE: transformers_pipeline,
    OURS: partial(clapedge_engine, variant="fp32"),
    OURS_INT8: partial(clapedge_engine, variant="int8"),
}
"""A file to scores."""
