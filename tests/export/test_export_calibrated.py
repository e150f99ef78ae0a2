"""A calibrated bundle keeps short towers: new ones, made of those in FP32 for the tower that calibration installs."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from click.testing import CliRunner

from clapedge import Engine
from clapedge.cli import cli
from clapedge.features.strips import strip_frames
from clapedge.model.bundle import Bundle
from clapedge.model.towers import AudioTower
from clapedge_calib import calibrate as calibrating
from clapedge_calib import graph_runner
from clapedge_calib.install import is_replaced
from clapedge_calib.layers import find_layers
from clapedge_calib.short_towers import make_short_towers

RATE = 48_000
CALIBRATED = "audio.int8.calibrated.onnx"


@pytest.fixture
def copied(tmp_path: Path, bundle: Bundle) -> Bundle:
    """Copy the bundle."""
    return Bundle.open(shutil.copytree(bundle.directory, tmp_path / "bundle"))


def test_the_short_towers_of_the_tower_before_go_with_it(bundle: Bundle) -> None:
    replaced = [file.path for file in bundle.manifest.files if is_replaced(file)]
    assert replaced == ["audio.int8.onnx", "audio.int8.strips1.onnx", "audio.int8.strips2.onnx"]


def test_short_towers_are_made_of_those_in_fp32_and_measured(copied: Bundle) -> None:
    shutil.copyfile(copied.directory / "audio.int8.onnx", copied.directory / CALIBRATED)
    made = make_short_towers(copied, CALIBRATED)
    assert [file.path for file in made] == [f"audio.int8.calibrated.strips{strips}.onnx" for strips in (1, 2)]
    generator = np.random.default_rng(0)
    for file, exported in zip(made, [each for each in copied.files("short") if each.variant == "int8"], strict=True):
        assert 0.99 < file.checks["min_cosine"] <= file.checks["mean_cosine"] <= 1
        assert 0 < file.checks["max_abs_error"] < 0.1
        assert (file.inputs, file.outputs) == (exported.inputs, exported.outputs)
        graph = onnx.load(copied.directory / file.path, load_external_data=False)
        owners = {tensor.external_data[0].value for tensor in graph.graph.initializer if tensor.external_data}
        assert owners == {CALIBRATED}
        assert file.bytes < 1.2 * exported.bytes
        frames = len(strip_frames(file.strips or 1, copied.manifest.front_end.clip_frames))
        features, flag = generator.normal(-40, 15, (1, 1, frames, 64)).astype(np.float32), np.zeros(1, np.bool_)
        paths = (copied.directory / each.path for each in (file, exported))
        one, other = (AudioTower(path).embed(features, flag) for path in paths)
        assert (one * other).sum() > 0.999


def test_the_command_installs_them_and_timelines_take_them(
    copied: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrating, "SENSITIVITY_CLIPS", 1)
    monkeypatch.setattr(calibrating, "SMOOTHING_CLIPS", 2)
    monkeypatch.setattr(calibrating, "find_layers", lambda model: find_layers(model)[-4:])
    monkeypatch.setattr(graph_runner, "WARM_UPS", 0)
    monkeypatch.setattr(graph_runner, "TIMED_RUNS", 1)
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for number in range(16):
        tone = 0.3 * np.sin(2 * np.pi * (200 + 90 * number) * np.arange(RATE) / RATE)
        soundfile.write(recordings / f"{number}.wav", tone + np.random.default_rng(number).normal(0, 0.05, RATE), RATE)
    done = CliRunner().invoke(cli, ["calibrate", str(copied.directory), "--audio", str(recordings), "--samples", "16"])
    assert done.exit_code == 0, done.output
    assert "audio.int8.calibrated.strips1.onnx:" in done.stdout
    opened = Bundle.open(copied.directory)
    assert opened.faults() == []
    short = [file.path for file in opened.files("short")]
    assert short == [
        *(f"audio.int8.calibrated.strips{strips}.onnx" for strips in (1, 2)),
        *(f"audio.fp32.strips{strips}.onnx" for strips in (1, 2)),
    ]
    named = {file.path for file in opened.manifest.files if "/" not in file.path} | {"manifest.json"}
    assert {path.name for path in copied.directory.iterdir() if path.is_file()} == named
    with Engine.load(opened.directory, provider="cpu", precision="int8", threads=1) as engine:
        samples = np.random.default_rng(0).normal(0, 0.1, 6 * RATE).astype(np.float32)
        found = engine.timeline((samples, RATE), ["rain", "siren"], window=2.5, tower="short")
        assert found.provenance.tower == "1 strip"
