"""The command line: what comes out where, and with which exit code it ends."""

import contextlib
import csv
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from clapedge.cli import log_to_stderr
from clapedge.cli.hints import with_flags
from clapedge.model.bundle import demo_directory

RECORD_FIELDS = [
    "file",
    "labels",
    "unsure",
    "heard",
    "warnings",
    "model",
    "weights",
    "variant",
    "provider",
    "space",
    "ms",
]
LABELS = ("-l", "rain", "-l", "siren")


Run = Callable[..., Any]
"""The fixture `run`: gives what `conftest.Done` describes."""


def test_a_table_names_file_labels_model_and_weights(run: Run, noise: Path) -> None:
    done = run("score", noise, *LABELS)
    assert done.code == 0
    assert str(noise) in done.out
    assert all(words in done.out for words in ("rain", "siren", "demo weights", "0-2 s of 2 s"))
    assert "demo model" in done.err


def test_a_json_line_has_the_documented_fields(run: Run, noise: Path) -> None:
    done = run("score", noise, noise, *LABELS, "--format", "jsonl")
    first, second = (json.loads(line) for line in done.out.splitlines())
    assert list(first) == RECORD_FIELDS
    assert first["heard"] == {"start": 0.0, "end": 2.0, "of": 2.0}
    assert list(first["labels"][0]) == ["name", "probability", "similarity"]
    assert list(first["ms"]) == ["decode", "frontend", "tower", "total"]
    assert first["labels"] == second["labels"]
    assert sum(label["probability"] for label in first["labels"]) == pytest.approx(1.0)


def test_json_is_an_array_of_the_same_records(run: Run, noise: Path, tmp_path: Path) -> None:
    done = run("score", noise, tmp_path / "none.wav", *LABELS, "--format", "json", "--top-k", "1")
    good, bad = json.loads(done.out)
    assert list(good) == RECORD_FIELDS
    assert len(good["labels"]) == 1
    assert list(bad) == ["file", "error"]
    assert done.code == 1


def test_csv_has_one_row_a_label_and_one_a_failure(run: Run, noise: Path, tmp_path: Path) -> None:
    done = run("score", noise, tmp_path / "none.wav", *LABELS, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["rank"] for row in rows] == ["1", "2", ""]
    assert rows[0]["label"] in {"rain", "siren"}
    assert "does not exist" in rows[2]["error"]


def test_one_bad_recording_does_not_stop_the_others(run: Run, noise: Path, tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.wav", tmp_path / "text.wav"
    empty.touch()
    text.write_text("this is no sound")
    done = run("score", empty, noise, text, tmp_path / "none.wav", *LABELS, "--format", "jsonl")
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [list(record) == ["file", "error"] for record in records] == [True, False, True, True]
    assert done.code == 1
    complaints = [line for line in done.err.splitlines() if line.startswith("error")]
    assert len(complaints) == 3
    for complaint, path, words in zip(
        complaints, (empty, text, "none.wav"), ("empty", "not audio", "exist"), strict=True
    ):
        assert str(path) in complaint
        assert words in complaint


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "no labels"),
        (("-l", " , "), "no labels"),
        (("-l", "rain", "-l", "rain"), "is given twice"),
        (("-l", "rain", "--labels", "x.toml"), "both -l and --labels"),
        (("--labels", "x.toml"), "does not exist"),
        (("--labels", "x.toml", "--template", "{}"), "--template goes with -l"),
        (("-l", "rain", "--template", "sound"), "has no {}"),
        (("-l", "rain", "--provider-option", "x"), "is not KEY=VALUE"),
        (("-l", "rain", "--window", "last"), "Invalid value"),
        (("-l", "rain", "--hop", "0"), "hop"),
        (("-l", "rain", "--window", "slide", "--hop", "nan"), "hop"),
        (("-l", "rain", "--start", "-1"), "start is -1.0 s"),
        (("-l", "rain", "--start", "nan"), "start is nan s"),
        (("-l", "rain", "--duration", "0"), "duration is 0.0 s"),
        (("-l", "rain", "--duration", "inf"), "duration is inf s"),
    ],
)
def test_wrong_usage_ends_with_2(run: Run, noise: Path, arguments: tuple[str, ...], complaint: str) -> None:
    done = run("score", noise, *arguments)
    assert done.code == 2
    assert complaint in done.err
    assert done.out == ""


def test_a_span_outside_the_recording_names_its_length(run: Run, noise: Path) -> None:
    done = run("score", noise, *LABELS, "--start", "5")
    assert done.code == 1
    assert "2.000 s long" in done.complaint


def test_a_missing_bundle_ends_with_3(run: Run, noise: Path, tmp_path: Path) -> None:
    done = run("score", noise, *LABELS, "--bundle", tmp_path / "none")
    assert done.code == 3
    assert "clapedge export" in done.complaint


def test_a_damaged_bundle_ends_with_3_wherever_it_is_opened(run: Run, noise: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(demo_directory(), bundle)
    for tower in bundle.glob("audio.*.onnx"):
        damaged = bytearray(tower.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        tower.write_bytes(damaged)
    for command in (("score", noise, *LABELS, "--bundle", bundle), ("bundle", "verify", bundle)):
        done = run(*command)
        assert done.code == 3
        assert "SHA-256" in done.complaint


def test_a_provider_that_is_not_there_ends_with_4(run: Run, noise: Path) -> None:
    done = run("score", noise, *LABELS, "--provider", "openvino")
    assert done.code == 4
    assert "pip install onnxruntime-ep-openvino" in done.complaint


def test_a_name_with_control_characters_stays_on_its_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a\n\x1b[31mb.wav"
    soundfile.write(path, np.random.default_rng(1).normal(0, 0.1, 8_000 * 25), 8_000)
    done = run("score", path, *LABELS)
    assert "\x1b" not in done.out + done.err
    assert "a\\n\\x1b[31mb.wav" in done.out.splitlines()[0]
    assert "a\\n\\x1b[31mb.wav" in next(line for line in done.err.splitlines() if "not the remaining" in line)


def test_a_lone_label_is_said_to_take_all_of_the_probability(run: Run, noise: Path) -> None:
    assert run("score", noise, "-l", "rain").err.count("lone label") == 1
    assert "lone label" not in run("score", noise, "-l", "rain", "--multi").err
    assert "lone label" not in run("score", noise, *LABELS).err


def test_the_unheard_rest_is_said_once(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.random.default_rng(1).normal(0, 0.1, 8_000 * 25), 8_000)
    done = run("score", path, *LABELS)
    assert done.err.count("not the remaining 15.0 s") == 1
    assert "not the remaining" not in run("score", path, *LABELS, "--window", "fuse").err
    assert "not the remaining" not in run("score", path, *LABELS, "--duration", "10").err


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ('use window="slide" or window="fuse"', "use --window slide or --window fuse"),
        ("replace it with force=True, or name another", "replace it with --force, or name another"),
        ("use hop=2 or a smaller model", "use --hop 2 or a smaller model"),
        ('raise trim_silence="x"\nhere', "raise --trim-silence x\\nhere"),
        ('check provider_options={"device_id": "1"}', "check --provider-option device_id=1"),
        ("check provider_options", "check --provider-option"),
        ("force=True.wav and x=1.wav do not exist", "force=True.wav and x=1.wav do not exist"),
        ("run: clapedge embed PATH -o DIR", "run: clapedge embed PATH -o DIR"),
    ],
)
def test_messages_of_the_library_name_flags_on_the_command_line(message: str, shown: str) -> None:
    assert with_flags(message) == shown


def test_warnings_name_flags_on_stderr_in_records_and_in_explanations(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.random.default_rng(1).normal(0, 0.1, 8_000 * 25), 8_000)
    advice = "use --window slide or --window fuse for all of it"
    written = run("score", path, *LABELS, "--format", "jsonl")
    assert advice in written.err
    assert advice in json.loads(written.out)["warnings"][0]
    assert advice in run("score", path, *LABELS, "--explain").out
    output = tmp_path / "results.jsonl"
    assert run("batch", path, *LABELS, "-o", output).code == 0
    assert advice in json.loads(output.read_text())["warnings"][0]


def test_what_the_library_logs_is_a_line_with_flags_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("clapedge")
    before = list(logger.handlers)
    try:
        for _ in range(2):
            log_to_stderr("note: %(message)s")
        logging.getLogger("clapedge.audio").info('%s is long; use window="slide"', "a\nb.wav")
    finally:
        logger.handlers = before
    assert capsys.readouterr().err == "note: a\\nb.wav is long; use --window slide\n"


def test_embedded_labels_score_like_their_words(run: Run, noise: Path, tmp_path: Path) -> None:
    stored = tmp_path / "set.npz"
    assert run("labels", "embed", *LABELS, "-o", stored).code == 0
    by_file = run("score", noise, "--labels", stored, "--format", "jsonl")
    by_words = run("score", noise, *LABELS, "--format", "jsonl")
    assert json.loads(by_file.out)["labels"] == json.loads(by_words.out)["labels"]


@pytest.mark.parametrize("output", ["set.txt", "none/set.npz"])
def test_labels_cannot_be_embedded_into_a_wrong_place(run: Run, tmp_path: Path, output: str) -> None:
    assert run("labels", "embed", *LABELS, "-o", tmp_path / output).code == 2


def test_bundle_info_shows_and_verify_checks_every_file(run: Run) -> None:
    info, verified = run("bundle", "info"), run("bundle", "verify")
    assert (info.code, verified.code) == (0, 0)
    assert "audio.fp32.onnx" in info.out
    assert json.loads(run("bundle", "info", "--json").out)["weights"] == "demo"
    assert "as the manifest says" in verified.out


def test_the_doctor_finds_the_cpu_and_says_why_the_rest_is_off(run: Run) -> None:
    done = run("doctor", "--format", "json")
    assert done.err == ""
    findings = {finding["name"]: finding for finding in json.loads(done.out)}
    assert findings["provider cpu"]["state"] == "ok"
    assert findings["bundle"]["state"] == "ok"
    assert all(finding["detail"] for finding in findings.values())


def test_the_doctor_ends_with_3_for_a_bad_bundle(run: Run, tmp_path: Path) -> None:
    assert run("doctor", "--bundle", tmp_path).code == 3


def test_standard_input_is_a_recording(noise: Path) -> None:
    command = [sys.executable, "-m", "clapedge.cli", "score", "-", *LABELS, "--format", "jsonl"]
    with noise.open("rb") as stream:
        done = subprocess.run(command, stdin=stream, capture_output=True, check=True, text=True)
    assert json.loads(done.stdout)["file"] == "-"


def test_a_reader_that_leaves_early_sees_no_traceback(noise: Path) -> None:
    command = [sys.executable, "-m", "clapedge.cli", "score", *[str(noise)] * 3, *LABELS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_a_full_disk_behind_standard_output_ends_with_2_in_one_line(noise: Path, form: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full, the disk that is always full")
    command = [sys.executable, "-m", "clapedge.cli", "score", str(noise), *LABELS, "--format", form]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, text=True)
    note, error = done.stderr.splitlines()
    assert note.startswith("note: ")
    assert error == "error: standard output cannot be used (No space left on device); make room, or name another"
    assert done.returncode == 2


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "table"])
def test_results_in_a_file_or_pipe_are_utf_8_whatever_the_locale(noise: Path, form: str) -> None:
    command = [sys.executable, "-m", "clapedge.cli", "score", str(noise), "-l", "轴承异响,rain", "--format", form]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, capture_output=True, check=True, env=environment)
    assert "轴承异响" in done.stdout.decode("utf-8")


def test_bench_reports_each_variant_with_its_stages(run: Run) -> None:
    reports = json.loads(run("bench", "--runs", "5", "--threads", "1", "--json").out)
    assert {report["variant"] for report in reports} == {"fp32", "int8"}
    for report in reports:
        assert list(report["steady_ms"]) == ["decode", "frontend", "tower", "total"]
        assert report["cold_ms"]["process"] > report["cold_ms"]["import"] > 0
        assert report["files_per_second"] > 0


@pytest.mark.parametrize("sent", [True, False])
def test_ctrl_c_amid_an_import_of_compiled_code_is_no_import_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, *, sent: bool
) -> None:
    def broken_import(**_: object) -> None:
        if sent:
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        raise ImportError("initialization failed")

    monkeypatch.setattr("clapedge.cli.cli.main", broken_import)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts tests may have it ignored
    try:
        if sent:
            done = run("score")
            assert (done.code, done.err) == (130, "interrupted\n")
        else:
            with pytest.raises(ImportError):
                run("score")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("closed", ["stdout", "stdin"])
def test_a_closed_stream_is_no_traceback(noise: Path, closed: str) -> None:
    source, redirect = (str(noise), ">&-") if closed == "stdout" else ("-", "<&-")
    command = f'"{sys.executable}" -m clapedge.cli score "{source}" -l rain,siren {redirect}'
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False, text=True)
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if closed == "stdout" else 1)


@pytest.mark.parametrize("threads", ["0", "100000", "99999999999999999999"])
def test_a_number_of_threads_beyond_reason_is_wrong_usage(run: Run, noise: Path, threads: str) -> None:
    assert run("score", noise, *LABELS, "--threads", threads).code == 2


def test_a_timeline_does_not_replace_its_recording(run: Run, noise: Path) -> None:
    before = noise.read_bytes()
    assert run("timeline", noise, *LABELS, "-o", noise).code == 2
    assert noise.read_bytes() == before


def test_a_label_file_without_end_is_refused(run: Run, noise: Path, tmp_path: Path) -> None:
    endless = tmp_path / "labels.txt"
    endless.write_bytes(b"a" * 10_000_001)
    done = run("score", noise, "--labels", endless)
    assert done.code == 2
    assert "longer than" in done.complaint
