from pathlib import Path

import numpy as np
import pytest
import soundfile

from clapedge import audio
from clapedge.audio import ReadOptions
from clapedge.features.clips import ClipMaker
from clapedge.features.front_end import FrontEnd
from clapedge_calib.calibration_data import CalibrationData, read_clips, split, split_by_time
from clapedge_calib.dataset import Example, read_dataset
from clapedge_calib.progress import Progress, Run


def read(examples: tuple[Example, ...] | list[Example], *, fusion: bool = True, windows: int = 4) -> CalibrationData:
    run = Run(read_clips(examples, FrontEnd(fusion=fusion), windows=windows, step="reading"))
    assert list(run) == [Progress("reading", place + 1, len(examples)) for place in range(len(examples))]
    return run.result


def examples(count: int, *, label: str, fold: str = "") -> list[Example]:
    return [Example(f"{label}/{i:03}", Path(f"{label}/{i:03}"), label, fold) for i in range(count)]


def test_classes_take_turns_and_one_recording_in_four_is_held_out() -> None:
    calibration, test = split([*examples(40, label="a"), *examples(8, label="b")], samples=16, seed=0)
    assert [each.label for each in calibration[:12]] == ["a", "b"] * 6
    assert len(calibration) == 16
    assert [each.label for each in test] == ["a", "b"] * 2 + ["a"] * 8
    assert not set(calibration) & set(test)


def test_a_long_recording_is_split_by_time_into_windows(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 205 * 8_000)
    soundfile.write(tmp_path / "day.wav", samples, 8_000)
    (tmp_path / "damaged.wav").write_text("no sound")
    calibration, test = split_by_time(read_dataset(tmp_path), samples=100, clip_seconds=10.0)
    assert [each.start for each in calibration if each.seconds] == [10.0 * place for place in range(15)]
    assert [each.start for each in test] == [150.0, 160.0, 170.0, 180.0, 190.0]
    assert [each.name for each in calibration if not each.seconds] == ["damaged.wav"]
    assert test[0].name == "day.wav from 150 s"
    found = read(test)
    assert found.recordings == 5
    expected = ClipMaker(FrontEnd())(audio.read(tmp_path / "day.wav", ReadOptions(start=150, duration=10)).samples)
    assert np.array_equal(found.clips[0].log_mels, expected.features[0, :1])
    few, _ = split_by_time(read_dataset(tmp_path), samples=4, clip_seconds=10.0)
    assert [each.start for each in few] == [0.0, 0.0, 30.0, 70.0]


def test_a_draw_is_repeated_by_its_seed_alone() -> None:
    pool = examples(40, label="a")
    assert split(pool, samples=9, seed=3) == split(pool, samples=9, seed=3)
    assert split(pool, samples=9, seed=3) != split(pool, samples=9, seed=4)


def test_a_named_fold_is_the_one_to_evaluate_with() -> None:
    pool = [*examples(5, label="a", fold="1"), *examples(5, label="b", fold="2")]
    calibration, test = split(pool, samples=99, seed=0, test_folds=["2"])
    assert {each.fold for each in calibration} == {"1"}
    assert {each.fold for each in test} == {"2"}


def test_short_recordings_are_read_once_and_every_fourth_fused_too(tones: Path) -> None:
    short = [each for each in read_dataset(tones) if each.label == "low hum"][:8]
    found = read(short)
    assert found.recordings == 8
    assert [clip.is_longer for clip in found.clips].count(True) == 2
    assert found.clips[0].features(4).shape == (1, 4, 1001, 64)
    assert not any(clip.is_longer for clip in read(short, fusion=False).clips)


def test_a_long_recording_gives_windows_over_all_of_it_and_a_fused_clip_of_four_mels(tones: Path) -> None:
    (long,) = [each for each in read_dataset(tones) if each.name == "whistle/0.wav"]
    first, second, fused = read([long]).clips
    assert (first.is_default, second.is_default, fused.is_default) == (True, False, False)
    assert not np.array_equal(first.log_mels, second.log_mels)
    assert fused.is_longer
    assert not np.array_equal(fused.log_mels[0], fused.log_mels[1])
    assert len(read([long], windows=1).clips) == 2


def test_what_cannot_be_read_or_is_silent_is_left_out_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "damaged.wav").write_text("no sound")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    found = read(read_dataset(tmp_path))
    assert found.clips == ()
    assert [sentence.partition(": ")[0] for sentence in found.left_out if "silent" in sentence]
    assert any("damaged.wav" in sentence for sentence in found.left_out)
    assert len(found.left_out) == 2


def test_features_are_those_that_the_engine_makes(tones: Path) -> None:
    example = read_dataset(tones)[0]
    clips = ClipMaker(FrontEnd())(audio.read(example.path).samples)
    assert np.array_equal(read([example]).clips[0].features(4), clips.features)


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_recordings_than_asked_for_are_all_taken(count: int) -> None:
    calibration, test = split(examples(count, label="a"), samples=100, seed=0)
    assert len(calibration) + len(test) == count
