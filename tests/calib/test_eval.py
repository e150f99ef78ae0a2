import csv
import errno
import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from clapedge.batch import embedding_writer
from clapedge.batch.embedding_store import EmbeddingStore
from clapedge.batch.store_files import INDEX_NAME
from clapedge.cli import cli
from clapedge.engine import Engine
from clapedge.errors import BundleError, ClapEdgeWarning, LabelError, MissingExtraError, StorageError, UsageError
from clapedge.pipeline import EmbedStream
from clapedge_calib.eval_command import needs_extra

pytestmark = pytest.mark.filterwarnings("ignore::clapedge.errors.ClapEdgeWarning")


def evaluate(*words: str | Path) -> Result:
    done = CliRunner().invoke(cli, ["eval", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit | click.exceptions.Exit):
        raise done.exception
    return done


def test_every_variant_is_measured_and_held_against_fp32(tones: Path) -> None:
    done = evaluate("--audio", tones, "--format", "json")
    assert done.exit_code == 0
    first, second = json.loads(done.stdout)
    assert (first["variant"], second["variant"]) == ("fp32", "int8")
    assert first["clips"] == 24
    assert first["labels"] == ["low hum", "whistle"]
    assert sum(map(sum, first["confusion"])) == 24
    assert first["agreement"] is None
    assert second["agreement"]["reference"] == "fp32"
    assert 0.9 < second["agreement"]["cosine_min"] <= second["agreement"]["cosine_mean"] <= 1.0


def test_the_figures_are_those_of_the_public_engine(tones: Path) -> None:
    done = evaluate("--audio", tones, "--variant", "fp32", "--format", "json")
    paths = sorted(tones.rglob("*.wav"), key=lambda path: path.relative_to(tones).as_posix())
    with Engine.load(precision="fp32") as engine:
        best = [engine.score(path, ["low hum", "whistle"]).top.name for path in paths]
    right = np.mean([name == path.parent.name.replace("_", " ") for name, path in zip(best, paths, strict=True)])
    assert json.loads(done.stdout)[0]["top1"]["value"] == pytest.approx(right)


def test_a_table_names_classes_and_a_csv_has_a_row_for_each(tones: Path) -> None:
    table = evaluate("--audio", tones, "--variant", "fp32").stdout
    assert "low hum" in table
    assert "rows: the truth" in table
    rows = list(csv.DictReader(io.StringIO(evaluate("--audio", tones, "--format", "csv").stdout)))
    assert [row["class"] for row in rows] == ["*", "low hum", "whistle"] * 2


def test_a_second_run_takes_what_the_first_has_kept(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate("--audio", tones, "--work", tmp_path, "--format", "json").stdout
    index = next(tmp_path.glob("int8-*")) / INDEX_NAME
    index.write_bytes(index.read_bytes()[:-20])  # as if the power had failed in the last line
    embedded: list[object] = []
    embed_stream = Engine.embed_stream

    def counted(self: Engine, source: str, **options: Any) -> EmbedStream:  # noqa: ANN401 - as the engine takes it
        embedded.append(source)
        return embed_stream(self, source, **options)

    monkeypatch.setattr(Engine, "embed_stream", counted)
    assert evaluate("--audio", tones, "--work", tmp_path, "--format", "json").stdout == first
    assert len(embedded) == 1
    evaluate("--audio", tones, "--work", tmp_path, "--pad", "zero")
    assert len(embedded) == 1 + 48


def test_a_store_that_was_cut_off_goes_on_with_a_line_of_its_own(tones: Path, tmp_path: Path) -> None:
    first = evaluate("--audio", tones, "--variant", "fp32", "--work", tmp_path, "--format", "json").stdout
    (directory,) = tmp_path.iterdir()
    rows = EmbeddingStore.open(directory).clips().tolist()
    index = directory / INDEX_NAME
    whole = index.read_bytes()
    index.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 10])
    assert evaluate("--audio", tones, "--variant", "fp32", "--work", tmp_path, "--format", "json").stdout == first
    assert index.read_bytes() == whole
    assert EmbeddingStore.open(directory).clips().tolist() == rows


def test_what_cannot_be_read_is_listed_and_the_rest_is_measured(tones: Path, tmp_path: Path) -> None:
    shutil.copytree(tones, tmp_path / "tones")
    (tmp_path / "tones" / "whistle" / "bad.wav").write_text("no sound")
    done = evaluate("--audio", tmp_path / "tones", "--variant", "fp32", "--format", "json")
    assert done.exit_code == 1
    assert "bad.wav" in done.stderr
    assert "1 of 25 recordings could not be read" in done.stderr
    assert json.loads(done.stdout)[0]["clips"] == 24


def test_labels_carry_the_classes_under_any_prompts(tones: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.toml"
    labels.write_text(
        '[[label]]\nname = "Low Hum"\nprompts = ["mains hum"]\n[[label]]\nname = "whistle"\n[[label]]\nname = "rain"\n',
        encoding="utf-8",
    )
    done = evaluate("--audio", tones, "--variant", "fp32", "--labels", labels, "--format", "json")
    assert json.loads(done.stdout)[0]["labels"] == ["Low Hum", "whistle", "rain"]
    labels.write_text('[[label]]\nname = "rain"\n', encoding="utf-8")
    with pytest.raises(LabelError, match="low hum, whistle"):
        evaluate("--audio", tones, "--labels", labels)


def test_the_confusion_matrix_is_written_as_csv(tones: Path, tmp_path: Path) -> None:
    target = tmp_path / "confusion.csv"
    evaluate("--audio", tones, "--variant", "fp32", "--confusion", target)
    head, *rows = csv.reader(target.open(encoding="utf-8"))
    assert head == ["truth", "low hum", "whistle"]
    assert sum(int(cell) for row in rows for cell in row[1:]) == 24


def test_a_matrix_that_cannot_be_written_is_refused_before_anything_is_read(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "embed_stream", lambda *_, **__: pytest.fail("it has begun"))
    for name, complaint in (
        ("a.gif", r"ends in none of \.csv, \.png"),
        ("absent/a.csv", "does not exist"),
        ("d.csv", "is not a regular file; name another"),
    ):
        (tmp_path / "d.csv").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=complaint):
            evaluate("--audio", tones, "--confusion", tmp_path / name)


def test_a_full_disk_ends_with_the_figures_and_without_half_a_matrix(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = tmp_path / "confusion.csv"
    target.write_text("what was there")
    words = ["eval", "--audio", str(tones), "--variant", "fp32", "--confusion", str(target)]
    assert "exists" in str(CliRunner().invoke(cli, words).exception)
    monkeypatch.setattr(Path, "replace", full)
    done = CliRunner().invoke(cli, [*words, "--force"])
    assert isinstance(done.exception, StorageError)
    assert "top-1" in done.stdout
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("confusion.csv", "what was there")]


def test_a_full_disk_is_no_fault_of_the_recordings(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_full_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(embedding_writer, "_write", on_a_full_disk)
    with pytest.raises(StorageError, match="No space left"):
        evaluate("--audio", tones, "--variant", "fp32", "--work", tmp_path)


def test_a_warning_names_recordings_that_trained_the_built_in_model(tones: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dog"
    folder.mkdir()
    for name in ("1-100032-A", "3-1234-B-0", "3-1234-B-7", "4-1234-A", "rain"):
        shutil.copy(tones / "whistle" / "1.wav", folder / f"{name}.wav")
    with pytest.warns(ClapEdgeWarning, match=r"2 of 5 recordings are of folds 1 to 3 of ESC-10"):
        evaluate("--audio", tmp_path, "--variant", "fp32")


def test_the_temperature_of_a_label_set_counts(tones: Path, tmp_path: Path) -> None:
    with Engine.load(precision="fp32") as engine:
        labels = engine.embed_labels(["low hum", "whistle"])
    errors = []
    for temperature in (1.0, 8.0):
        replace(labels, temperature=temperature).save(tmp_path / "labels.npz")
        done = evaluate("--audio", tones, "--labels", tmp_path / "labels.npz", "--format", "json", "--variant", "fp32")
        (found,) = json.loads(done.stdout)
        errors.append((found["calibration_error"], found["top1"]))
    assert errors[0][0] != errors[1][0]
    assert errors[0][1] == errors[1][1]


def test_a_missing_package_of_the_extra_is_named_with_the_extra_and_others_are_not() -> None:
    with pytest.raises(MissingExtraError, match=r"eval needs .* pip install 'clapedge\[calib\]'"), needs_extra("eval"):
        raise ModuleNotFoundError(name="sklearn.metrics")
    with pytest.raises(ModuleNotFoundError, match="bug"), needs_extra("eval"):
        raise ModuleNotFoundError("bug", name="clapedge.bug")


@pytest.mark.parametrize("command", ["eval", "calibrate"])
def test_every_option_says_what_it_is(command: str) -> None:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    assert [option.name for option in found.params if isinstance(option, click.Option) and not option.help] == []


def test_a_confusion_matrix_is_drawn_where_matplotlib_is_installed(tones: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra calib")
    target = tmp_path / "confusion.png"
    evaluate("--audio", tones, "--variant", "fp32", "--confusion", target)
    assert target.read_bytes().startswith(b"\x89PNG")


def test_a_variant_that_the_bundle_lacks_and_recordings_without_class_are_refused(tones: Path) -> None:
    with pytest.raises(BundleError, match="fp16"):
        evaluate("--audio", tones, "--variant", "fp16")
    with pytest.raises(UsageError, match="has no label"):
        evaluate("--audio", tones / "whistle")
