"""What a timeline is written as, each format read by a reader that is not ours."""

import csv
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import clapedge
from clapedge.cli import main
from clapedge.errors import ClapEdgeWarning
from clapedge.events.event import Event
from clapedge.events.timeline import Timeline
from clapedge.features.clips import ClipMaker
from clapedge.features.front_end import FrontEnd
from clapedge.output import plot as timeline_plot
from clapedge.output.events import EVENT_WRITERS
from clapedge.scoring.result import Coverage, Provenance

RATE = 48_000
EVENTS = (
    Event("rain <near> & far", 1.25, 7.75, 2.5, 0.9, 0.41),
    Event("轴承\t异响\n", 3600.0, 7325.125, 7000.0, 0.5004, -0.02),
)
TIMELINE = Timeline(
    file="night 夜.wav",
    labels=("rain <near> & far", "轴承\t异响\n"),
    thresholds=(None, 0.2),
    window=1.0,
    centres=np.arange(0.5, 10.0),
    edges=np.arange(11.0),
    probabilities=np.linspace(0, 1, 20).reshape(10, 2),
    similarities=np.linspace(0, 1, 20, dtype=np.float32).reshape(10, 2),
    coverage=Coverage(0.0, 10.0, 10.0),
    warnings=(),
    provenance=Provenance("model", "demo", "int8", "cpu"),
)
FIELDS = [
    "file",
    "label",
    "start",
    "end",
    "peak",
    "probability",
    "similarity",
    "model",
    "weights",
    "variant",
    "provider",
    "space",
]


def written(format_name: str, events: tuple[Event, ...] = EVENTS) -> str:
    """Return the events in a format."""
    stream = io.StringIO(newline="")
    EVENT_WRITERS[format_name].write([(TIMELINE, events)], stream)
    return stream.getvalue()


def test_csv_has_the_documented_columns() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv"), newline="")))
    assert list(rows[0]) == FIELDS
    assert [(row["label"], float(row["start"]), float(row["end"])) for row in rows] == [
        (event.label, event.start, event.end) for event in EVENTS
    ]


def test_json_lines_have_the_documented_fields() -> None:
    first, second = map(json.loads, written("jsonl").splitlines())
    assert list(first) == FIELDS
    assert first["file"] == "night 夜.wav"
    assert (second["label"], second["end"], second["similarity"]) == ("轴承\t异响\n", 7325.125, -0.02)


def test_audacity_labels_are_start_end_and_text_parted_by_tabs() -> None:
    rows = list(csv.reader(io.StringIO(written("audacity")), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert rows == [
        ["1.250000", "7.750000", "rain <near> & far"],
        ["3600.000000", "7325.125000", "轴承 异响"],
    ]


def test_a_raven_selection_table_has_the_columns_that_raven_asks_for() -> None:
    rows = list(csv.DictReader(io.StringIO(written("raven")), delimiter="\t", quoting=csv.QUOTE_NONE))
    required = ["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"]
    assert list(rows[0])[: len(required)] == required
    assert [row["Selection"] for row in rows] == ["1", "2"]
    assert {row["View"] for row in rows} == {"Spectrogram 1"}
    assert all(float(row["Begin Time (s)"]) < float(row["End Time (s)"]) for row in rows)
    assert all(float(row["Low Freq (Hz)"]) < float(row["High Freq (Hz)"]) for row in rows)
    assert [row["Label"] for row in rows] == ["rain <near> & far", "轴承 异响"]


def test_webvtt_is_read_by_ffmpeg(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV, the extra `formats`, brings the reader of WebVTT")
    path = tmp_path / "events.vtt"
    path.write_text(written("webvtt"), encoding="utf-8", newline="")
    with av.open(str(path), format="webvtt") as container:
        (stream,) = container.streams
        cues = [packet for packet in container.demux(stream) if packet.size]
        base = float(stream.time_base)
        assert [(float(cue.pts) * base, float(cue.duration) * base) for cue in cues] == [
            (1.25, 6.5),
            (3600.0, 3725.125),
        ]
        assert bytes(cues[0]).decode() == "rain &lt;near&gt; &amp; far (90%)"
        assert bytes(cues[1]).decode() == "轴承 异响 (50%)"


def test_a_table_has_a_line_an_event_and_says_what_made_it() -> None:
    lines = written("table").splitlines()
    assert lines[0] == "night 夜.wav  0-10 s of 10 s"
    assert " ".join(lines[1].split()) == "00:00:01.25 - 00:00:07.75 6.5 s 90.0% +0.410 rain <near> & far"
    assert lines[-1] == "  2 events in 10 windows · model int8 on cpu · demo weights"


@pytest.mark.parametrize("format_name", sorted(EVENT_WRITERS))
def test_no_events_are_a_valid_file_too(format_name: str) -> None:
    assert written(format_name, ()).count("\n") == {"csv": 1, "raven": 1, "webvtt": 1, "table": 2}.get(format_name, 0)


def test_a_spectrogram_is_the_mean_power_of_its_parts(tmp_path: Path) -> None:
    samples = (0.1 * np.random.default_rng(0).standard_normal(50 * RATE)).astype(np.float32)
    samples[20 * RATE : 30 * RATE] *= 10
    path = tmp_path / "sound.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    picture = timeline_plot.spectrogram(path, Coverage(0.0, 50.0, 50.0), FrontEnd(), columns=50)
    assert picture.shape == (50, 64)
    power = 10.0 ** (ClipMaker(FrontEnd()).log_mel(samples) / 10)
    parts = np.split(power, np.arange(100, 5000, 100))
    whole = 10 * np.log10([part.mean(axis=0) for part in parts])
    np.testing.assert_allclose(picture, whole, atol=1e-3)


@pytest.mark.parametrize("samples", [1, 512, 1024, 4800])
def test_a_spectrogram_of_next_to_nothing_is_drawn(samples: int) -> None:
    heard = Coverage(0.0, samples / RATE, samples / RATE)
    picture = timeline_plot.spectrogram(np.full(samples, 0.1, np.float32), heard, FrontEnd())
    assert np.isfinite(picture).all()


def test_names_that_no_font_can_show_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is the extra `plot`")
    monkeypatch.setattr(timeline_plot, "WIDE_FONTS", ("no such font",))
    with pytest.warns(ClapEdgeWarning, match="no installed font has all characters"):
        timeline_plot.draw(TIMELINE, (), np.zeros((100, 64), np.float32), FrontEnd(), tmp_path / "plot.png")


@pytest.mark.parametrize(
    ("start", "end", "count", "first", "last"),
    [
        (0.0, 120.0, 0, None, None),
        (0.0, 1800.0, 7, "0:00:00", "0:30:00"),
        (5.5, 1805.5, 6, "0:05:00", "0:30:00"),
        (3500.0, 3700.0, 7, "0:58:30", "1:01:30"),
        (0.0, 86_400.0, 13, "0:00:00", "24:00:00"),
    ],
)
def test_a_long_plot_has_a_clock_on_its_axis(
    start: float, end: float, count: int, first: str | None, last: str | None
) -> None:
    ticks = timeline_plot.time_ticks(Coverage(start, end, end))
    assert len(ticks) == count
    assert (next(iter(ticks.values()), None), next(reversed(ticks.values()), None)) == (first, last)
    assert all(start <= second <= end for second in ticks)


@pytest.mark.parametrize("name", ["plot.png", "plot.svg"])
def test_a_plot_is_drawn_in_the_format_of_its_name_and_nothing_else_is_left(tmp_path: Path, name: str) -> None:
    image = pytest.importorskip("matplotlib.image", reason="matplotlib is the extra `plot`")
    path = tmp_path / name
    named = replace(TIMELINE, file="night.wav", labels=("rain", "bearing"))
    events = (Event("rain", 1.25, 7.75, 2.5, 0.9, 0.41),)
    timeline_plot.draw(named, events, np.zeros((100, 64), np.float32), FrontEnd(), path)
    assert list(tmp_path.iterdir()) == [path]
    if name.endswith(".svg"):
        assert "<svg" in path.read_text(encoding="utf-8")
        return
    height, width, _ = image.imread(path).shape
    assert height > 400
    assert width > 1000


SIREN = Path(clapedge.__file__).parent / "demo_clips" / "siren.flac"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run `clapedge timeline`, and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["clapedge", "timeline", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_writes_events_to_a_file_and_draws_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is the extra `plot`")
    output, plot = tmp_path / "events.jsonl", tmp_path / "plot.png"
    arguments = (SIREN, "-l", "siren,rain", "--window", "2", "--format", "jsonl", "-o", output, "--plot", plot)
    assert run(monkeypatch, *arguments) == 0
    assert {json.loads(line)["label"] for line in output.read_text(encoding="utf-8").splitlines()} == {"siren"}
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.jsonl", "plot.png"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no label is hidden" in captured.err


def test_events_go_to_standard_output_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, SIREN, "-l", "siren,rain", "--format", "audacity", "--multi", "--on", "0.3") == 0
    assert capsys.readouterr().out == "0.000000\t4.000000\tsiren\n"


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("none.wav", "-l", "rain"), 1, "none.wav does not exist"),
        ((SIREN, "-l", "rain", "--hop", "20"), 2, "leaves gaps between windows"),
        ((SIREN, "-l", "rain", "--window", "20"), 2, "10 s long at most"),
        ((SIREN, "-l", "rain", "--plot", "picture.docx"), 2, "ends in none of .png"),
        (("-", "-l", "rain", "--plot", "picture.png"), 2, "name a file"),
        ((SIREN, "-l", "rain", "-o", "none/events.csv"), 2, "make it first"),
        ((SIREN, "-l", "rain", "--off", "0.2"), 2, "without on"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str | Path, ...],
    code: int,
    complaint: str,
) -> None:
    assert run(monkeypatch, *arguments) == code
    err = capsys.readouterr().err
    assert complaint in err
    assert "Traceback" not in err
