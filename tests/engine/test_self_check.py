"""A variant that does not reproduce its model on this machine is not taken, and everybody learns why."""

import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest

from clapedge import Engine
from clapedge.arrays import BoolArray, Float32Array
from clapedge.diagnostics import benchmark
from clapedge.errors import BundleDamagedError, ClapEdgeWarning, ParityError
from clapedge.features.clips import ClipMaker
from clapedge.features.front_end import FrontEnd
from clapedge.model import proof, proof_inputs, saturation, sessions
from clapedge.model.bundle import Bundle, Manifest, demo_directory, write_manifest
from clapedge.model.cpu import processor_features
from clapedge.model.proof import PROOF_COSINE, VariantCheck, embed_audio, encoded, make_proof, rows_of
from clapedge.model.providers import ProviderConfig, choose
from clapedge.model.proving import prove
from clapedge.model.towers import AudioTower

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a cache directory of its own."""
    monkeypatch.setenv("CLAPEDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def copied(tmp_path: Path) -> Bundle:
    """Copy the demo model."""
    shutil.copytree(demo_directory(), tmp_path / "bundle")
    return Bundle.open(tmp_path / "bundle")


def changed(bundle: Bundle, **facts: object) -> Bundle:
    """Change a bundle's manifest."""
    write_manifest(bundle.directory, msgspec.structs.replace(bundle.manifest, **facts))
    return Bundle.open(bundle.directory)


def stray(bundle: Bundle, angle: float) -> Bundle:
    """Turn the expected embeddings by an angle, so that nothing reproduces them to more than its cosine."""
    held = bundle.manifest.proof
    assert held is not None
    rows = rows_of(held.audio, bundle.manifest.embedding_size)
    assert rows is not None
    noise = np.random.default_rng(0).normal(size=rows.shape)
    noise -= (noise * rows).sum(axis=1, keepdims=True) * rows
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    turned = (rows * np.cos(angle) + noise * np.sin(angle)).astype(np.float32)
    return changed(bundle, proof=msgspec.structs.replace(held, audio=encoded(turned)))


@pytest.fixture
def broken_int8(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let INT8 towers compute something else, as on a processor on which their products saturate."""
    embed = AudioTower.embed

    def embed_badly(tower: AudioTower, features: Float32Array, is_longer: BoolArray) -> Float32Array:
        rows = embed(tower, features, is_longer)
        if "int8" not in tower._model.name:
            return rows
        rows = rows + np.float32(0.2) * np.roll(rows, 1, axis=1)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    with monkeypatch.context() as patch:
        patch.setattr(AudioTower, "embed", embed_badly)
        yield


def load(**options: object) -> tuple[Engine, list[str]]:
    """Load the demo model, and return what is said besides that it is a demo."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        engine = Engine.load(threads=1, **options)  # type: ignore[arg-type]
    return engine, [str(each.message) for each in said if "built-in demo" not in str(each.message)]


def test_the_inputs_have_the_same_bits_everywhere() -> None:
    sums = [
        int(np.abs(each * proof_inputs.TURN).astype(np.int64).sum()) for each in proof_inputs.recordings(front_end())
    ]
    assert sums == EXPECTED_SUMS  # whole numbers, so that no rounding hides a difference
    assert all(np.array_equal(each * 2.0**24, np.rint(each * 2.0**24)) for each in proof_inputs.recordings(front_end()))


def front_end() -> FrontEnd:
    return Bundle.open(demo_directory()).manifest.front_end


EXPECTED_SUMS = [1011710551448, 335614202320, 503315391800, 1766543592021]
"""Of the magnitudes, as whole numbers."""


def test_the_shipped_model_proves_itself_in_every_variant() -> None:
    for variant in ("fp32", "int8"):
        engine, said = load(precision=variant)
        with engine:
            found = engine.check_variant()
        assert said == []
        assert found is not None
        assert found.holds
        assert found.cosine >= found.required


@pytest.mark.usefixtures("broken_int8")
def test_auto_takes_the_next_variant_and_says_so_with_figures(cache: Path) -> None:
    for _ in ("found out", "remembered"):
        engine, said = load()
        with engine:
            assert engine.variant == "fp32"
        assert len(said) == 1
        assert "audio.int8.onnx does not reproduce its model on this machine, on cpu: least cosine 0.9" in said[0]
        assert said[0].endswith("taking fp32")
    assert len(list((cache / "proofs").iterdir())) == 2


@pytest.mark.usefixtures("broken_int8")
def test_a_variant_asked_for_by_name_is_refused_unless_it_is_taken_as_it_is(run: Run, noise: Path) -> None:
    with pytest.raises(ParityError, match=r"least cosine 0\.9.* \(at least 0\.995\).*self_check=False"):
        load(precision="int8")
    engine, said = load(precision="int8", self_check=False)
    engine.close()
    assert said == []
    done = run("score", noise, "-l", "rain,dog", "--precision", "int8")
    assert done.code == 3
    assert "--no-self-check" in done.complaint
    assert run("score", noise, "-l", "rain,dog", "--precision", "int8", "--no-self-check").code == 0


def test_what_was_found_is_read_and_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    load()[0].close()
    monkeypatch.setattr(proof, "embed_audio", lambda *_: pytest.fail("measured again"))
    load()[0].close()


@pytest.mark.usefixtures("broken_int8")
def test_a_variant_that_is_known_not_to_hold_is_not_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    load()[0].close()
    opened: list[str] = []
    original = sessions.open_session

    def count(model: Path, *arguments: object, **options: object) -> object:
        opened.append(model.name)
        return original(model, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("clapedge.model.towers.open_session", count)
    load()[0].close()
    assert opened == ["audio.fp32.onnx"]


def test_a_cache_that_cannot_be_written_or_read_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CLAPEDGE_CACHE", str(tmp_path / "file"))
    assert load()[1] == []
    monkeypatch.setenv("CLAPEDGE_CACHE", "")
    assert load()[1] == []
    monkeypatch.setenv("CLAPEDGE_CACHE", str(tmp_path / "cache"))
    load()[0].close()
    (kept,) = (tmp_path / "cache" / "proofs").iterdir()
    kept.write_bytes(b"{")
    assert load()[1] == []
    assert len(kept.read_bytes()) > 10


def test_the_answer_belongs_to_one_processor_version_provider_and_file(
    copied: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, config = copied.file("audio", "int8"), choose("cpu")

    def place(**facts: object) -> Path | None:
        return VariantCheck(copied, msgspec.structs.replace(file, **facts), config)._path()

    places = {place(), place(sha256="0" * 64), place(checks={PROOF_COSINE: 0.99})}
    other = ProviderConfig("openvino", {"device_type": "CPU"})
    places |= {VariantCheck(copied, file, other)._path(), VariantCheck(stray(copied, 0.1), file, config)._path()}
    for module, name, value in (
        (proof, "processor_features", lambda: "another processor"),
        (proof, "saturates", lambda: True),
        (onnxruntime, "__version__", "2.0"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            places.add(place())
    assert len(places) == 8


def test_a_bundle_without_a_proof_is_used_as_before_and_doctor_says_so(copied: Bundle, run: Run) -> None:
    bare = changed(copied, proof=None)
    engine, said = load(bundle=bare.directory)
    with engine:
        assert said == []
        assert engine.check_variant() is None
    done = run("doctor", "--bundle", bare.directory)
    assert done.code == 0
    assert "clapedge bundle prove" in done.out
    assert run("bundle", "prove", bare.directory).code == 0
    assert Bundle.open(bare.directory).manifest == prove(copied).manifest
    assert "reproduces its model" in run("doctor", "--bundle", bare.directory).out


def test_a_proof_of_a_formula_that_this_version_does_not_know_is_not_compared_with(copied: Bundle, run: Run) -> None:
    held = copied.manifest.proof
    assert held is not None
    newer = changed(stray(copied, 1.0), proof=msgspec.structs.replace(held, formula=proof_inputs.FORMULA + 1))
    assert load(bundle=newer.directory)[1] == []
    assert "upgrade" in run("doctor", "--bundle", newer.directory).out


def test_doctor_and_bench_check_whatever_was_found_before(copied: Bundle, run: Run) -> None:
    load(bundle=copied.directory, precision="int8")[0].close()
    strayed = stray(copied, 0.2)
    done = run("doctor", "--bundle", strayed.directory)
    assert done.code == 3
    assert "does not reproduce its model here: least cosine 0.98" in done.out
    report = benchmark.measure(benchmark.Setting(str(strayed.directory), precision="int8", threads=1), runs=5)
    assert report.reproduction is not None
    assert not report.reproduction.holds
    assert report.reproduction.cosine == pytest.approx(np.cos(0.2), abs=1e-3)


def test_nothing_that_reproduces_is_an_error_that_says_so(copied: Bundle) -> None:
    with (
        pytest.raises(ParityError, match=r"fp32\.onnx does not reproduce"),
        pytest.warns(ClapEdgeWarning, match="int8"),
    ):
        Engine.load(stray(copied, 0.2).directory, threads=1)


def test_a_variant_calibrated_for_other_sounds_is_held_against_what_it_reached_there(copied: Bundle) -> None:
    strayed, cosine = stray(copied, 0.15), float(np.cos(0.15))  # 0.9888
    files = tuple(
        msgspec.structs.replace(file, checks={**file.checks, PROOF_COSINE: cosine}) if file.variant == "int8" else file
        for file in strayed.manifest.files
    )
    engine, said = load(bundle=changed(strayed, files=files).directory, precision="int8")
    engine.close()
    assert said == []


def test_a_text_tower_that_does_not_reproduce_is_replaced_too(copied: Bundle) -> None:
    held = copied.manifest.proof
    assert held is not None
    assert held.text is not None
    rows = rows_of(held.text, copied.manifest.embedding_size)
    assert rows is not None
    text = copied.file("text", "fp32")
    strayed = changed(copied, proof=msgspec.structs.replace(held, text=encoded(-rows)))
    engine, _ = load(bundle=strayed.directory)
    refused = pytest.raises(ParityError, match=r"text\.fp32\.onnx")
    with engine, pytest.warns(ClapEdgeWarning, match=r"text\.int8\.onnx does not reproduce"), refused:
        engine.embed_text(["rain"])
    assert text.variant == "fp32"


def test_damaged_embeddings_are_a_damaged_bundle_or_no_reproduction(copied: Bundle) -> None:
    held = copied.manifest.proof
    assert held is not None
    for audio in (
        "not base64 !",
        encoded(np.zeros((4, 3), np.float32)),
        encoded(np.full((4, 256), np.nan, np.float32)),
    ):
        bundle = changed(copied, proof=msgspec.structs.replace(held, audio=audio))
        check = VariantCheck(bundle, bundle.file("audio", "fp32"), choose("cpu"))
        tower = AudioTower(bundle.path(check.file), threads=1)
        assert (found := check.measure_audio(tower)) is None or not found.holds
    (copied.directory / "manifest.json").write_text('{"schema": 1, "proof": 3}')
    with pytest.raises(BundleDamagedError):
        Bundle.open(copied.directory)


def test_the_first_check_takes_a_fraction_of_a_second_and_a_proof_a_few_kilobytes(copied: Bundle) -> None:
    tower = AudioTower(copied.path(copied.file("audio", "int8")), threads=1)
    began = time.perf_counter()
    rows = embed_audio(tower, ClipMaker(copied.manifest.front_end))
    assert time.perf_counter() - began < 10  # 0.1 s on an idle core: this machine may be busy
    assert len(rows) == 4
    assert len(msgspec.json.encode(make_proof(rows, rows))) < 16_000
    assert isinstance(copied.manifest, Manifest)


def test_sessions_ask_for_exact_products_where_products_saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    for answer, entry in ((True, "1"), (False, None)):
        monkeypatch.setattr(sessions, "saturates", lambda answer=answer: answer)
        options = sessions.session_options(1)
        if entry:
            assert options.get_session_config_entry(saturation.EXACT_PRODUCTS) == entry
        else:
            with pytest.raises(RuntimeError):
                options.get_session_config_entry(saturation.EXACT_PRODUCTS)


def test_the_question_about_products_has_the_answer_of_the_instruction_set() -> None:
    features = processor_features()
    if "vendor_id" in features:
        assert saturation.saturates() == (
            not {"avx512_vnni", "avx_vnni"} & set(features.split()) and "avx2" in features
        )
    else:
        assert not saturation.saturates()


def test_the_processor_is_that_of_its_first_core(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t: avx2\ncpu MHz\t: 3\n\nprocessor\t: 1\nflags\t: none\n\n" * 200)
    assert processor_features(path).splitlines()[1:] == ["flags\t: avx2"]
    assert processor_features(tmp_path / "missing")
