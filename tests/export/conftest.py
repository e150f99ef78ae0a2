"""Small checkpoints of the full architecture, made on the fly, and one bundle exported from one of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

from clapedge.model.bundle import Bundle
from clapedge_export import ExportOptions, export_bundle, graphs
from clapedge_export.quiet import quiet
from clapedge_export.synthetic import byte_tokenizer, randomize

ModelMaker = Callable[..., ClapModel]
DirectoryMaker = Callable[..., Path]

AUDIO = {
    "depths": [2, 1, 1, 2],
    "num_attention_heads": [1, 2, 4, 8],
    "patch_embeds_hidden_size": 16,
    "hidden_size": 128,
}
TEXT = {
    "vocab_size": 264,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "intermediate_size": 96,
    "max_position_embeddings": 40,
    "layer_norm_eps": 1e-5,
}
CARD = "---\nlanguage: en\nlicense: cc-by-4.0\n---\n# A small model\n"


def small_model(*, fusion: bool = True, audio: dict[str, Any] | None = None, seed: int = 0) -> ClapModel:
    """Make a small model with random weights and statistics; `audio` changes its audio configuration."""
    config = ClapConfig(
        text_config=TEXT, audio_config={**AUDIO, "enable_fusion": fusion, **(audio or {})}, projection_dim=32
    )
    with quiet():
        model = ClapModel(config)
    model.train(mode=False)
    randomize(model, seed=seed)
    return model


def write_directory(path: Path, model: ClapModel, **entries: object) -> Path:
    """Write a model in the hub's layout; `entries` go into config.json."""
    fusion = model.audio_model.config.enable_fusion
    with quiet():
        model.save_pretrained(path)
        truncation = "fusion" if fusion else "rand_trunc"
        ClapFeatureExtractor(truncation=truncation, frequency_min=50).save_pretrained(path)
    (path / "tokenizer.json").write_bytes(byte_tokenizer())
    (path / "README.md").write_text(CARD)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | entries))
    return path


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Keep PyTorch on one thread: on models this small, threads cost more than they bring."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_model() -> ModelMaker:
    """Return the function that makes a small model."""
    return small_model


@pytest.fixture(scope="session")
def make_directory() -> DirectoryMaker:
    """Return the function that writes a model in the hub's layout."""
    return write_directory


@pytest.fixture(scope="session")
def fused_model() -> ClapModel:
    """Make a small model that fuses long recordings."""
    return small_model()


@pytest.fixture(scope="session")
def fused_directory(tmp_path_factory: pytest.TempPathFactory, fused_model: ClapModel) -> Path:
    """Write the small fused model in the hub's layout."""
    return write_directory(tmp_path_factory.mktemp("checkpoints") / "small-fused", fused_model)


@pytest.fixture(scope="session")
def label_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a label file of three labels."""
    path = tmp_path_factory.mktemp("labels") / "kitchen.txt"
    path.write_text("rain\ndog barking\nsiren\n")
    return path


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, fused_directory: Path, label_file: Path) -> Bundle:
    """Export the small fused model in every precision, with labels."""
    out = tmp_path_factory.mktemp("bundles") / "all"
    return export_bundle(
        str(fused_directory), out, ExportOptions(labels=[label_file], precisions=("fp32", "fp16", "int8"))
    )


@pytest.fixture(scope="session")
def mels() -> torch.Tensor:
    """Return log-mels (4, 4, 1001, 64) dB that no check of the exporter has seen."""
    generator = torch.Generator().manual_seed(99)
    levels = torch.rand(4, 4, 1, 1, generator=generator) * 40 - 60
    tilt = torch.linspace(10, -20, 64)
    return (levels + tilt + 6 * torch.randn(4, 4, 1001, 64, generator=generator)).clamp(min=-100)


@pytest.fixture
def without_tracing(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    """Take graphs from the bundle instead of tracing them again, where a test is about what follows."""
    audio = onnx.load(bundle.path(bundle.file("audio", "fp32")))
    text = onnx.load(bundle.path(bundle.file("text", "fp32")))
    monkeypatch.setattr(graphs, "export_audio", lambda *_, **__: audio)
    short = {file.strips: onnx.load(bundle.path(file)) for file in bundle.files("short") if file.variant == "fp32"}
    monkeypatch.setattr(graphs, "export_short", lambda _tower, _front_end, strips, **_: short[strips])
    monkeypatch.setattr(graphs, "export_text", lambda *_, **__: text)
