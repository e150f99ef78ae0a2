"""Test vectors: a port that follows the documents makes the same, and machines of equal spaces agree.

`python tests/engine/test_vectors.py` writes again what one machine computed, after the demo model was made anew.
"""

import base64
import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest

from clapedge import Bundle, ClapEdgeWarning, Engine, Label, LabelSet
from clapedge.kit.vectors import DESCRIPTION, write_vectors
from clapedge.labels.npz import Arrays
from clapedge.model.bundle import BUNDLE_VARIABLE, demo_directory, describe, write_manifest
from clapedge.model.proof_inputs import named_recordings
from clapedge.model.space import SAME_COSINE

ELSEWHERE = Path(__file__).parent / "demo_vectors.json"
"""What an x86-64 processor with VNNI and ONNX Runtime 1.31.1 computed with the demo model."""


def read(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Read a file of test vectors as a port does."""
    with np.load(path, allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    return json.loads(arrays.pop(DESCRIPTION)), arrays


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the test vectors of the demo model."""
    path = tmp_path_factory.mktemp("vectors") / "demo.npz"
    with pytest.warns(ClapEdgeWarning, match="demo model"):
        write_vectors(Bundle.open(demo_directory()), path)
    return path


def noise(n: int) -> int:
    """Return sample n of the noise in docs/bundle.md, in whole numbers of any size."""
    h = (n + 1) * 0x9E3779B9 % 2**32
    h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
    h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
    return ((h ^ h >> 16) >> 8) - 2**23


def triangle(steps: Iterable[int]) -> Iterator[int]:
    """Yield the samples of a triangle wave as docs/bundle.md describes it."""
    phase = 0
    for step in steps:
        phase = (phase + step) % 2**24
        yield abs(phase - 2**23) - 2**22


def by_the_document() -> dict[str, list[float]]:
    """Return the recordings by the formula in docs/bundle.md."""
    sweep = triangle(34_952 + n * 2_761_250 // 480_000 for n in range(480_000))
    chirp = [value + noise(n) // 16 for n, value in enumerate(sweep)]
    tone = [value if n < 240_000 else 0 for n, value in enumerate(triangle(repeat(348_476, 480_000)))]
    long = [*tone, *chirp, *(noise(n) // 4 for n in range(240_000))]
    found = {"chirp": chirp, "hiss": [noise(n) // 2 for n in range(160_000)], "tone": tone, "long": long}
    return {name: [value / 2**24 for value in values] for name, values in found.items()}


def test_the_formula_in_words_makes_the_recordings_bit_by_bit(vectors: Path) -> None:
    described = {one["name"]: one for one in read(vectors)[0]["recordings"]}
    for name, samples in by_the_document().items():
        content = np.array(samples, "<f4")
        assert content.tolist() == samples  # float32 holds them
        assert described[name]["samples"] == len(samples)
        assert described[name]["sha256"] == hashlib.sha256(content.tobytes()).hexdigest()


def test_a_port_that_knows_the_file_and_the_towers_alone_reproduces_the_scores(vectors: Path) -> None:
    about, arrays = read(vectors)
    for variant in about["spaces"]:
        session = onnxruntime.InferenceSession(
            demo_directory() / f"audio.{variant}.onnx", providers=["CPUExecutionProvider"]
        )
        for name in (one["name"] for one in about["recordings"]):
            clips = zip(arrays[f"{name}.log_mel"], arrays[f"{name}.is_longer"], strict=True)
            rows = [
                session.run(None, {"input_features": mels[None], "is_longer": flag[None]})[0][0] for mels, flag in clips
            ]
            mean = np.mean(rows, axis=0)
            embedding = mean / np.linalg.norm(mean)
            assert embedding @ arrays[f"{name}.{variant}.embedding"] > about["min_cosine"]
            cosines = arrays[f"labels.{variant}"] @ embedding
            powers = [math.exp(about["logit_scale"] * cosine) for cosine in cosines]
            probabilities = np.array(powers) / sum(powers)
            np.testing.assert_allclose(cosines, arrays[f"{name}.{variant}.similarities"], atol=0.02)
            np.testing.assert_allclose(probabilities, arrays[f"{name}.{variant}.probabilities"], atol=0.05)


def test_the_file_says_what_the_engine_computes_and_is_the_same_each_time(vectors: Path, tmp_path: Path) -> None:
    about, arrays = read(vectors)
    recordings = named_recordings(Bundle.open(demo_directory()).manifest.front_end)
    with pytest.warns(ClapEdgeWarning, match="demo model"):
        engine = Engine.load(demo_directory(), precision="fp32", provider="cpu")
    for one in about["recordings"]:
        samples = recordings["long" if one["name"] == "fused" else one["name"]]
        (embedding,) = engine.embed_audio([samples], window=one["window"])
        np.testing.assert_allclose(embedding, arrays[f"{one['name']}.fp32.embedding"], atol=1e-6)
    with pytest.warns(ClapEdgeWarning, match="demo model"):
        write_vectors(Bundle.open(demo_directory()), tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == vectors.read_bytes()


def test_a_bundle_without_text_tower_has_the_scores_of_a_stored_set_hidden_labels_included(tmp_path: Path) -> None:
    demo = Bundle.open(demo_directory())
    kept = demo.file("audio", "int8")
    (tmp_path / "labels").mkdir()
    (tmp_path / kept.path).write_bytes(demo.read(kept))
    labels = LabelSet((Label("rain", ("rain",)), Label("background", ("a quiet room",), hidden=True)))
    with pytest.warns(ClapEdgeWarning, match="demo model"), Engine.load(demo_directory()) as engine:
        engine.embed_labels(labels).save(tmp_path / "labels" / "yard.npz")
    stored = describe(tmp_path, "labels/yard.npz", role="labels")
    write_manifest(tmp_path, msgspec.structs.replace(demo.manifest, files=(kept, stored)))
    with pytest.warns(ClapEdgeWarning, match="demo model"):
        write_vectors(Bundle.open(tmp_path), tmp_path / "out.npz")
    about, arrays = read(tmp_path / "out.npz")
    assert [label["name"] for label in about["labels"]] == ["rain", "background"]
    assert arrays["hiss.int8.similarities"].shape == (2,)
    assert set(about["spaces"]) == {"int8"}


def embeddings(path: Path) -> dict[str, dict[str, str]]:
    """Return the embeddings of a file by space and recording, (E,) little-endian float32 in base64."""
    about, arrays = read(path)
    return {
        space: {
            one["name"]: base64.b64encode(arrays[f"{one['name']}.{variant}.embedding"].astype("<f4").tobytes()).decode()
            for one in about["recordings"]
        }
        for variant, space in about["spaces"].items()
    }


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_two_machines_with_spaces_of_equal_names_agree(vectors: Path, variant: str) -> None:
    here, elsewhere = embeddings(vectors), json.loads(ELSEWHERE.read_text())
    assert here.keys() == elsewhere.keys(), f"the demo model is another one: run {Path(__file__).name} as a script"
    space = next(name for name in here if name.endswith(variant))
    for name, row in here[space].items():
        mine, its = (np.frombuffer(base64.b64decode(one), "<f4") for one in (row, elsewhere[space][name]))
        assert mine.astype(np.float64) @ its >= SAME_COSINE


def test_the_command_writes_the_file_once(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(BUNDLE_VARIABLE, raising=False)
    done = run("bundle", "vectors", "-o", tmp_path / "demo.npz")
    assert done.code == 0
    assert "chirp, hiss, tone, long, fused in" in done.out
    assert run("bundle", "vectors", "-o", tmp_path / "demo.npz").complaint.endswith(
        "replace it with --force, or name another file"
    )
    assert "ends in none of .npz" in run("bundle", "vectors", "-o", tmp_path / "demo.json").complaint
    assert [path.name for path in tmp_path.iterdir()] == ["demo.npz"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        write_vectors(Bundle.open(demo_directory()), Path(folder, "demo.npz"))
        ELSEWHERE.write_text(json.dumps(embeddings(Path(folder, "demo.npz")), indent=1) + "\n")
