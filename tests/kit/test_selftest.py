"""The self-test: it notices a machine that computes otherwise, and a kit that is not the one it was recorded with."""

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from clapedge.arrays import Float32Array
from clapedge.cli.bundle import bundle as bundle_command
from clapedge.engine import Engine
from clapedge.errors import BundleDamagedError, BundleError, BundleNotFoundError, ParityError
from clapedge.kit import selftest
from clapedge.kit.selftest import compare, read
from clapedge.model.proof import TOLERANCES, Reproduction

pytestmark = pytest.mark.filterwarnings("ignore:clapedge-demo is the built-in demo model")


@pytest.fixture
def kit(tiny_kits: dict[str, Path], tmp_path: Path) -> Path:
    """Return a kit that a test may spoil."""
    return shutil.copytree(tiny_kits["1.0"], tmp_path / "kit")


def test_a_machine_that_computes_as_the_one_that_packed_passes(kit: Path) -> None:
    (found,) = compare(kit, provider="cpu")
    assert found.holds
    assert (found.file, found.variant, found.top) == ("siren.flac", "int8", "siren")
    assert found.cosine == pytest.approx(1, abs=1e-6)
    done = CliRunner().invoke(bundle_command, ["selftest", str(kit), "--json"])
    assert json.loads(done.stdout)[0]["holds"] is True


def test_a_machine_that_computes_otherwise_fails_with_the_name_of_the_clip(
    kit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = Engine.embed_audio

    def askew(self: Engine, *sources: object, **hearing: object) -> Float32Array:
        embedded = true(self, *sources, **hearing)  # type: ignore[arg-type]
        turned = embedded + 0.2 * np.roll(embedded, 1, axis=1)
        turned /= np.linalg.norm(turned, axis=1, keepdims=True)
        return turned

    monkeypatch.setattr(Engine, "embed_audio", askew)
    (found,) = compare(kit, provider="cpu")
    assert not found.holds
    assert found.cosine < TOLERANCES["int8"].min_cosine
    done = CliRunner().invoke(bundle_command, ["selftest", str(kit)])
    assert isinstance(done.exception, BundleDamagedError)
    assert "siren.flac" in str(done.exception)


def test_a_tower_that_does_not_reproduce_its_model_fails_whatever_was_found_before(
    kit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poor = Reproduction(cosine=0.99, difference=0.1, required=0.995, holds=False)
    monkeypatch.setattr(Engine, "check_variant", lambda _: poor)
    done = CliRunner().invoke(bundle_command, ["selftest", str(kit)])
    assert isinstance(done.exception, ParityError)
    assert "audio.int8.onnx does not reproduce its model on this machine" in str(done.exception)
    assert "least cosine 0.990000 (at least 0.995)" in str(done.exception)


@pytest.mark.parametrize("error", [2e-4, 5e-5])
def test_in_float32_no_number_may_differ_by_more_than_is_written(error: float) -> None:
    tolerance = TOLERANCES["fp32"]
    vector = np.zeros(512, np.float32)
    vector[0] = 1
    other = vector.copy()
    other[1] = error
    assert selftest.holds(tolerance, vector, other / np.linalg.norm(other), 0.0) is (error < 1e-4)


def test_a_similarity_that_its_embedding_does_not_explain_fails(kit: Path) -> None:
    expectation = read(kit)
    (clip,) = expectation.clips
    moved = {**clip.similarities, "siren": clip.similarities["siren"] - 0.3}
    changed = msgspec.structs.replace(expectation, clips=(msgspec.structs.replace(clip, similarities=moved),))
    (kit / "selftest/expected.json").write_bytes(msgspec.json.encode(changed))
    assert [found.holds for found in compare(kit, provider="cpu")] == [False]


def test_a_record_of_another_bundle_is_refused(kit: Path) -> None:
    expectation = read(kit)
    (clip,) = expectation.clips
    for changed in ({"similarities": {"other": 0.5}}, {"embedding": clip.embedding[:64]}):
        altered = msgspec.structs.replace(clip, **changed)
        whole = msgspec.structs.replace(expectation, clips=(altered,))
        (kit / "selftest/expected.json").write_bytes(msgspec.json.encode(whole))
        with pytest.raises(BundleError, match="not the bundle that the self-test recorded"):
            list(compare(kit, provider="cpu"))


def test_a_directory_that_is_not_a_kit_and_a_damaged_record_give_different_errors(kit: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleNotFoundError, match="is not a kit"):
        read(tmp_path)
    (kit / "selftest/expected.json").write_text("{}")
    with pytest.raises(BundleDamagedError, match="unpack the kit again"):
        read(kit)
