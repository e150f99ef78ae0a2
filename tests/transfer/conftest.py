"""A small bundle, a hub that serves it, and a cache of one's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hub import Hub

from clapedge.cache_dir import CACHE_VARIABLE
from clapedge.features.front_end import FrontEnd
from clapedge.model.bundle import Bundle, Manifest, describe, write_manifest

NAME = "someone/thing"
SOURCE = f"hf:{NAME}"

FILES = {
    "audio.fp32.onnx": {"role": "audio", "variant": "fp32"},
    "audio.int8.onnx": {"role": "audio", "variant": "int8"},
    "text.fp32.onnx": {"role": "text", "variant": "fp32"},
    "text.int8.onnx": {"role": "text", "variant": "int8"},
    "tokenizer.json": {"role": "tokenizer"},
    "labels/yard.npz": {"role": "labels"},
}
"""Files of the small bundle; what they hold does not matter here."""


def make_bundle(directory: Path, *, size: int = 50_000) -> Bundle:
    """Make a bundle whose files hold repetitions of their names."""
    for path in FILES:
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes((f"{path} {directory.name} ".encode() * size)[:size])
    manifest = Manifest(
        model="thing",
        revision=None,
        licence="apache-2.0",
        weights="random",
        front_end=FrontEnd(),
        embedding_size=8,
        logit_scale=10.0,
        max_tokens=77,
        files=tuple(describe(directory, path, **facts) for path, facts in FILES.items()),
        notes=("Knows nothing.",),
    )
    write_manifest(directory, manifest)
    return Bundle.open(directory)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Make a small bundle."""
    return make_bundle(tmp_path / "source")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve a hub that this process talks to, with caches of its own."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with Hub() as started:
        started.use(monkeypatch, tmp_path / "hub-cache")
        yield started


@pytest.fixture
def served(hub: Hub, bundle: Bundle) -> Hub:
    """Put the small bundle on the hub."""
    hub.add(NAME, bundle.directory)
    return hub


def contents(directory: Path) -> dict[str, bytes]:
    """Return every file below a directory."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }
