import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import soundfile
from click.testing import CliRunner, Result
from tests.calib.conftest import write_tone

from clapedge.cli import cli
from clapedge.engine import Engine
from clapedge.errors import AudioError, BundleError, ClapEdgeWarning, StorageError, UsageError
from clapedge.model.bundle import Bundle, demo_directory, write_manifest
from clapedge.model.proof import PROOF_COSINE
from clapedge_calib import calibrate as calibrating
from clapedge_calib import graph_runner
from clapedge_calib.calibration_data import CalibrationData, read_clips
from clapedge_calib.layers import find_layers
from clapedge_calib.progress import Steps
from clapedge_calib.quantize import tensorrt_faults

pytestmark = pytest.mark.filterwarnings("ignore::clapedge.errors.ClapEdgeWarning")


def calibrate(*words: object) -> Result:
    done = CliRunner().invoke(cli, ["calibrate", "--samples", "16", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure less: what is measured is not what these tests are about."""
    monkeypatch.setattr(calibrating, "SENSITIVITY_CLIPS", 1)
    monkeypatch.setattr(calibrating, "SMOOTHING_CLIPS", 2)
    monkeypatch.setattr(calibrating, "find_layers", lambda model: find_layers(model)[-9:])
    monkeypatch.setattr(graph_runner, "WARM_UPS", 0)
    monkeypatch.setattr(graph_runner, "TIMED_RUNS", 1)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_directory(), tmp_path / "bundle"))


def test_a_tower_that_holds_is_installed_and_the_bundle_is_whole(bundle: Path, tones: Path) -> None:
    done = calibrate(bundle, "--audio", tones, "--max-drop", 25)
    assert done.exit_code == 0
    opened = Bundle.open(bundle)
    assert opened.faults() == []
    entry = opened.file("audio", "int8")
    assert opened.variants("audio") == ("fp32", "int8")
    assert {path.name for path in bundle.iterdir()} == {file.path for file in opened.manifest.files} | {"manifest.json"}
    assert entry.checks["mean_cosine"] > 0.99
    assert entry.checks[PROOF_COSINE] > 0.9  # what it is held against when it is opened
    assert any(note.startswith("INT8 audio tower") for note in opened.manifest.notes)
    with Engine.load(bundle, precision="int8") as engine, Engine.load(bundle, precision="fp32") as reference:
        path = tones / "whistle" / "3.wav"
        assert (engine.embed_audio([path]) * reference.embed_audio([path])).sum() > 0.99


def test_a_tower_for_cpus_is_finished_as_at_export(bundle: Path, tones: Path) -> None:
    calibrate(bundle, "--audio", tones, "--max-drop", 25)
    exported, made = (
        onnx.load(each / Bundle.open(each).file("audio", "int8").path) for each in (demo_directory(), bundle)
    )
    for model in (exported, made):
        assert [node.name for node in model.graph.node if node.op_type == "If"] == ["patches/If"]
        assert not any(node.op_type in {"DequantizeLinear", "Identity"} for node in model.graph.node)
    with Engine.load(bundle, precision="int8") as engine, Engine.load(bundle, precision="fp32") as reference:
        path = tones / "whistle" / "0.wav"
        rows = [each.embed_audio([path], window="fuse") for each in (engine, reference)]
        assert (rows[0] * rows[1]).sum() > 0.99


def test_a_second_calibration_replaces_the_first(bundle: Path, tones: Path) -> None:
    names = []
    for _ in range(2):
        calibrate(bundle, "--audio", tones, "--max-drop", 25)
        opened = Bundle.open(bundle)
        assert opened.faults() == []
        names.append(opened.file("audio", "int8").path)
        assert len(opened.manifest.notes) == len(Bundle.open(demo_directory()).manifest.notes) + 1
    assert len(set(names)) == 2
    assert not (bundle / names[0]).exists()


def test_a_tower_that_costs_too_much_is_refused_and_the_report_says_why(bundle: Path, tones: Path) -> None:
    before = contents(bundle)
    done = calibrate(
        bundle, "--audio", tones, "--target", "tensorrt", "--percentile", 60, "--no-restore", "--min-cosine", 0.999
    )
    assert done.exit_code == 1
    assert contents(bundle) == before
    report = json.loads((bundle.parent / "bundle-calibration" / "report.json").read_text(encoding="utf-8"))
    assert report["chosen"] is None
    assert report["verdict"].startswith("Refused")
    assert report["candidates"][1]["holds"] is False


def test_layers_are_put_back_to_float_until_the_tower_holds(bundle: Path, tones: Path, tmp_path: Path) -> None:
    options = ("--audio", tones, "--target", "tensorrt", "--percentile", 97, "--max-drop", 100, "--dry-run")
    calibrate(bundle, *options, "--no-restore", "--min-cosine", 0, "--report", tmp_path / "as-it-is")
    as_it_is = json.loads((tmp_path / "as-it-is" / "report.json").read_text(encoding="utf-8"))["candidates"][1]
    wanted = (1 + as_it_is["cosine_mean"]) / 2
    calibrate(bundle, *options, "--min-cosine", wanted, "--report", tmp_path / "mended")
    report = json.loads((tmp_path / "mended" / "report.json").read_text(encoding="utf-8"))
    mended = report["candidates"][1]
    assert mended["holds"]
    assert mended["cosine_mean"] >= wanted
    assert 0 < len(mended["restored"]) <= len(report["sensitivities"]) // 2
    assert mended["restored"] == [each["layer"] for each in report["sensitivities"]][: len(mended["restored"])]
    fewer = [step for step in mended["steps"] if step["restored"] < len(mended["restored"])]
    assert not any(step["holds"] for step in fewer)


def test_the_tower_for_tensorrt_passes_its_rules_and_a_table_names_every_tensor(
    bundle: Path, tones: Path, tmp_path: Path
) -> None:
    calibrate(bundle, "--audio", tones, "--target", "tensorrt", "--max-drop", 25, "--write-table", tmp_path / "table")
    model = onnx.load(bundle / Bundle.open(bundle).file("audio", "int8").path)
    assert tensorrt_faults(model) == []
    onnx.checker.check_model(model, full_check=True)
    head, *lines = (tmp_path / "table").read_text().splitlines()
    assert head.startswith("TRT-10")
    rounded = [node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert sorted(line.partition(":")[0] for line in lines) == sorted(rounded)


def test_the_page_needs_nothing_from_elsewhere(bundle: Path, tones: Path) -> None:
    calibrate(bundle, "--audio", tones, "--dry-run", "--max-drop", 25)
    page = (bundle.parent / "bundle-calibration" / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert "http" not in page
    assert "<script" not in page
    assert (bundle.parent / "bundle-calibration" / "report.md").read_text(encoding="utf-8").startswith("# INT8 of")


def test_the_same_recordings_and_seed_give_the_same_tower(bundle: Path, tones: Path, tmp_path: Path) -> None:
    second = Path(shutil.copytree(bundle, tmp_path / "second"))
    for each in (bundle, second):
        calibrate(each, "--audio", tones, "--target", "arm", "--max-drop", 25)
    assert Bundle.open(bundle).file("audio", "int8").sha256 == Bundle.open(second).file("audio", "int8").sha256


def test_too_few_recordings_are_refused_and_damaged_ones_named(bundle: Path, tones: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for number in range(3):
        shutil.copy(tones / "whistle" / f"{number + 1}.wav", few / f"{number}.wav")
    (few / "damaged.wav").write_text("no sound")
    before = contents(bundle)
    with pytest.raises(AudioError, match=r"damaged\.wav"):
        calibrate(bundle, "--audio", few)
    assert contents(bundle) == before


def test_one_long_recording_is_enough(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "device").mkdir()
    write_tone(tmp_path / "device" / "night.wav", 300, seconds=170)
    with pytest.warns(ClapEdgeWarning, match="1 recording is .* 13 to calibrate with, and 4 of the last quarter"):
        done = calibrate(bundle, "--audio", tmp_path / "device", "--max-drop", 25, "--min-cosine", 0.5)
    assert done.exit_code == 0, done.output
    assert Bundle.open(bundle).faults() == []


def test_silence_calibrates_nothing(bundle: Path, tmp_path: Path) -> None:
    for number in range(20):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(4800), 48_000)
    with pytest.raises(AudioError, match="silent"):
        calibrate(bundle, "--audio", tmp_path)


def test_an_empty_folder_and_something_else_than_a_bundle_are_refused(
    bundle: Path, tones: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="names no recordings"):
        calibrate(bundle, "--audio", tmp_path / "empty")
    with pytest.raises(BundleError, match="no bundle"):
        calibrate(tones, "--audio", tones)


@pytest.mark.parametrize(
    ("fails", "failure"),
    [
        ("audio.int8.calibrated.onnx", OSError(28, os.strerror(28))),
        ("audio.int8.calibrated.report.json", KeyboardInterrupt()),
        ("manifest.json", OSError(28, os.strerror(28))),
    ],
)
def test_a_full_disk_or_an_interruption_leaves_the_bundle_as_it_was(
    bundle: Path, tones: Path, monkeypatch: pytest.MonkeyPatch, fails: str, failure: BaseException
) -> None:
    before, replace = contents(bundle), Path.replace

    def fail(self: Path, target: Path) -> Path:
        if target == bundle / fails:
            raise failure
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    done = CliRunner().invoke(
        cli, ["calibrate", "--samples", "16", "--max-drop", "25", str(bundle), "--audio", str(tones)]
    )
    assert done.exit_code == 1
    assert contents(bundle) == before
    assert "is as it was" in str(done.exception) or "Aborted" in done.stderr


def test_what_came_into_the_bundle_meanwhile_stays_in_it(
    bundle: Path, tones: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_and_change(*given: Any, **options: Any) -> Steps[CalibrationData]:  # noqa: ANN401 - as it is called
        manifest = Bundle.open(bundle).manifest
        write_manifest(bundle, msgspec.structs.replace(manifest, notes=("Somebody was here.",)))
        return read_clips(*given, **options)

    monkeypatch.setattr(calibrating, "read_clips", read_and_change)
    calibrate(bundle, "--audio", tones, "--max-drop", 25)
    assert Bundle.open(bundle).manifest.notes[0] == "Somebody was here."
    assert Bundle.open(bundle).faults() == []


def test_places_that_cannot_be_written_are_refused_before_anything_is_read(
    bundle: Path, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrating, "read_clips", lambda *_, **__: pytest.fail("it has begun"))
    (tmp_path / "file").touch()
    options = ("--audio", tones)
    with pytest.raises(UsageError, match="is not a folder"):
        calibrate(bundle, *options, "--report", tmp_path / "file" / "report")
    with pytest.raises(UsageError, match="absent does not exist"):
        calibrate(bundle, *options, "--write-table", tmp_path / "absent" / "table")
    with pytest.raises(UsageError, match="is not a regular file; name another"):
        calibrate(bundle, *options, "--write-table", tmp_path)
    with pytest.raises(UsageError, match="no recording is in fold 4"):
        calibrate(bundle, *options, "--test-fold", 4)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(StorageError, match="are needed at least"):
        calibrate(bundle, *options)


def test_recordings_without_classes_are_evaluated_by_the_cosine(bundle: Path, tones: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in tones.rglob("*.wav"):
        shutil.copy(path, flat / f"{path.parent.name}-{path.name}")
    done = calibrate(bundle, "--audio", flat, "--dry-run")
    assert done.exit_code == 0
    report = json.loads((bundle.parent / "bundle-calibration" / "report.json").read_text(encoding="utf-8"))
    assert report["judged_by"].startswith("nothing but the cosine")
    assert report["candidates"][1]["drop"] is None
