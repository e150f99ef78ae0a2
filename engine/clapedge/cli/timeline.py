"""`clapedge timeline`: a long recording to events."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clapedge.cli.hints import note
from clapedge.cli.options import (
    STANDARD_INPUT,
    duration_option,
    engine_options,
    event_options,
    label_options,
    load_engine,
    read_labels,
    start_option,
)
from clapedge.cli.progress import StepProgress
from clapedge.errors import MissingExtraError, UsageError
from clapedge.terminal import counted, printable

if TYPE_CHECKING:
    from clapedge.audio import AudioSource
    from clapedge.engine import Engine
    from clapedge.events.event import Event
    from clapedge.events.timeline import Timeline
    from clapedge.labels import EmbeddedLabels
    from clapedge.pipeline import ClipBatch, RecordingOptions

PLOT_SUFFIXES = (".png", ".svg", ".pdf")

EXAMPLES = """\b
Examples:
  clapedge timeline night.wav --labels wildlife
  clapedge timeline night.wav --labels wildlife --window 3 --hop 0.5 --format raven -o night.txt
  clapedge timeline street.mp3 --labels city --merge-gap 2 --min-duration 1 --plot street.png
  clapedge timeline street.mp3 --labels city --multi --format audacity > labels.txt

\b
Exit codes: 0 done, 1 the recording failed, 2 usage, 3 bundle, 4 provider.
"""


@click.command(epilog=EXAMPLES)
@click.argument("recording", metavar="AUDIO")
@label_options
@click.option("--window", type=float, help="Seconds of each window, at most 10. [default: twice the hop]")
@click.option("--hop", type=float, default=1.0, show_default=True, help="Seconds from one window to the next.")
@start_option
@duration_option
@event_options
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "csv", "jsonl", "audacity", "raven", "webvtt"]),
    default="table",
    show_default=True,
    help="Form of the events.",
)
@click.option("-o", "--output", type=click.Path(), help="Where to write the events. [default: standard output]")
@click.option("--plot", type=click.Path(), help="Draw spectrogram and probabilities: NAME.png, .svg or .pdf.")
@click.option("--force", is_flag=True, help="Replace the files that -o and --plot name.")
@engine_options
def timeline(  # noqa: PLR0913 - one parameter an option is click's way
    *,
    recording: str,
    words: Sequence[str],
    label_file: str | None,
    template: str | None,
    window: float | None,
    hop: float,
    start: float,
    duration: float | None,
    on: float | None,
    off: float | None,
    min_duration: float,
    merge_gap: float,
    multi: bool,
    output_format: str,
    output: str | None,
    plot: str | None,
    force: bool,
    threads: int | None,
    **options: object,
) -> None:
    """Find which sounds a long recording (AUDIO, - for standard input) holds, from when to when."""
    from clapedge.atomic_file import check_target
    from clapedge.events.rules import EventRule
    from clapedge.events.timeline import default_window, window_options

    engine_of = cache(lambda: load_engine({**options, "fusion": "long"}, threads=threads))
    rule = EventRule(on, off, min_duration, merge_gap, multi)
    if output:
        check_target(Path(output), force=force, special=True, inputs=[recording])
    if plot:
        _check_plot(recording, Path(plot), force=force)
    labels = read_labels(engine_of, words, label_file, template)
    if not multi and not any(label.hidden for label in labels.label_set.labels):
        note("no label is hidden, so each moment is given to one; add a hidden background")
    source = sys.stdin.buffer if recording == STANDARD_INPUT else recording
    window = default_window(hop) if window is None else window
    parts: RecordingOptions = {**window_options(window, hop), "start": start, "duration": duration}
    found = _score(engine_of(), source, labels, parts, window)
    for sentence in found.warnings:
        note(sentence, about=recording)
    events = found.events(rule)
    _write(output_format, found, events, output)
    if plot:
        _draw(engine_of(), found, events, plot)


def _score(
    engine: "Engine",
    source: "AudioSource",
    labels: "EmbeddedLabels",
    options: "RecordingOptions",
    window: float,
) -> "Timeline":
    """Score a recording over time, with progress."""
    stream = engine.embed_stream(source, **options)
    batches: list[ClipBatch] = []
    with StepProgress() as progress:
        for batch in stream:
            batches.append(batch)
            progress("", batch.position, batch.end, known=batches[0].position, sound=True)
    return engine.timeline_of(stream.join(batches), engine.scorer(labels), window=window)


def _check_plot(recording: str, plot: Path, *, force: bool) -> None:
    """Raise if a picture could not be drawn; called before the recording is read."""
    from clapedge.atomic_file import check_target

    if recording == STANDARD_INPUT:
        raise UsageError("--plot reads the recording a second time, which standard input cannot be; name a file")
    check_target(plot, force=force, suffixes=PLOT_SUFFIXES, inputs=[recording])
    if find_spec("matplotlib") is None:
        raise MissingExtraError("drawing a timeline", "plot")


def _write(output_format: str, found: "Timeline", events: "tuple[Event, ...]", output: str | None) -> None:
    """Write events to standard output, or to a file that appears whole or not at all."""
    from clapedge.atomic_file import atomic_write, cannot_be_written
    from clapedge.output.events import EVENT_WRITERS

    writer = EVENT_WRITERS[output_format]
    if output is None:
        writer.write(found, events, sys.stdout)
        return
    target = Path(output)
    special = target.exists() and not target.is_file()  # a pipe or a device takes the text, and is not replaced
    with nullcontext(target) if special else atomic_write(target) as path:
        try:
            with path.open("w", encoding="utf-8", newline="\n") as stream:
                writer.write(found, events, stream)
        except OSError as error:
            raise cannot_be_written(target, error) from error
    click.echo(f"{printable(output)}: {counted(len(events), 'event')}", err=True)


def _draw(engine: "Engine", found: "Timeline", events: "tuple[Event, ...]", plot: str) -> None:
    """Draw the picture."""
    from clapedge.output import plot as timeline_plot

    front_end = engine.bundle.manifest.front_end
    picture = timeline_plot.spectrogram(found.file, found.coverage, front_end)
    timeline_plot.draw(found, events, picture, front_end, plot)
    click.echo(f"{printable(plot)}: drawn", err=True)
