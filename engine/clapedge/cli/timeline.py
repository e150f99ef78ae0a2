"""`clapedge timeline`: a long recording to events."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clapedge.cli.hints import note
from clapedge.cli.options import (
    STANDARD_INPUT,
    check_spreadsheet,
    duration_option,
    engine_options,
    event_options,
    label_options,
    load_engine,
    note_missing_background,
    read_labels,
    spreadsheet_option,
    start_option,
    tower_option,
)
from clapedge.cli.progress import StepProgress
from clapedge.errors import AudioFileNotFoundError, ClapEdgeError, MissingExtraError, UsageError
from clapedge.terminal import counted, printable

if TYPE_CHECKING:
    from clapedge.engine import Engine
    from clapedge.events.event import Event
    from clapedge.events.rules import EventRule
    from clapedge.events.timeline import Timeline
    from clapedge.labels import EmbeddedLabels
    from clapedge.output.csv_rows import DecimalMark
    from clapedge.output.events import EventWriter, Found
    from clapedge.pipeline import ClipBatch, ReadKeywords, RecordingOptions

PLOT_SUFFIXES = (".png", ".svg", ".pdf")

LEAST_SECONDS, GAP_SECONDS = 1.0, 2.0
"""Of 80 unseen clips of ESC-10 in half an hour of noise, without them 68 of 145 events were wrong, 31 of them flickers
between the clips; with them 12 of 85, and one clip fewer of 74 was found (the demo model)."""

EXAMPLES = """\b
Examples:
  clapedge timeline night.wav --labels wildlife
  clapedge timeline night.wav --labels wildlife --window 3 --hop 0.5 --format raven -o night.txt
  clapedge timeline week.flac --labels wildlife --window 2.5 --format csv -o week.csv
  clapedge timeline street.mp3 --labels city --merge-gap 2 --min-duration 1 --plot street.png
  clapedge timeline street.mp3 --labels city --multi --format audacity > labels.txt
  clapedge embed nights/ --recursive -o kept/ --window slide --length 2 --hop 1
  clapedge timeline --embeddings kept/ --labels wildlife --format csv -o events.csv

\b
Exit codes: 0 done, 1 the recording failed, 2 usage, 3 bundle, 4 provider.
"""


@click.command(epilog=EXAMPLES)
@click.argument("recordings", metavar="[AUDIO]...", nargs=-1)
@label_options
@click.option("--window", type=float, help="Seconds of each window, at most 10. [default: twice the hop]")
@click.option("--hop", type=float, default=1.0, show_default=True, help="Seconds from one window to the next.")
@tower_option
@start_option
@duration_option
@event_options(min_duration=LEAST_SECONDS, merge_gap=GAP_SECONDS)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "csv", "jsonl", "audacity", "raven", "webvtt"]),
    default="table",
    show_default=True,
    help="Form of the events.",
)
@spreadsheet_option
@click.option(
    "--embeddings",
    metavar="DIR",
    help="Read no audio: take the windows that `embed --window slide` kept of AUDIO here.",
)
@click.option("-o", "--output", type=click.Path(), help="Where to write the events. [default: standard output]")
@click.option("--plot", type=click.Path(), help="Draw spectrogram and probabilities: NAME.png, .svg or .pdf.")
@click.option("--force", is_flag=True, help="Replace the files that -o and --plot name.")
@engine_options
@click.pass_context
def timeline(  # noqa: PLR0913 - one parameter an option is click's way
    ctx: click.Context,
    /,
    *,
    recordings: Sequence[str],
    words: Sequence[str],
    label_file: str | None,
    template: str | None,
    on: float | None,
    off: float | None,
    min_duration: float,
    merge_gap: float,
    multi: bool,
    output_format: str,
    embeddings: str | None,
    output: str | None,
    plot: str | None,
    force: bool,
    **options: Any,  # noqa: ANN401 - click has checked them
) -> None:
    """Find which sounds a long recording (AUDIO, - for standard input) holds, from when to when.

    With --embeddings it is answered from kept windows, of many recordings or, without AUDIO, of all that are kept.
    """
    from clapedge.atomic_file import check_target
    from clapedge.events.rules import EventRule

    _check_recordings(ctx, recordings, embeddings, output_format)
    writer = _writer(output_format, options["spreadsheet"])
    engine_of = cache(lambda: load_engine({**options, "fusion": "long"}, threads=options["threads"]))
    rule = EventRule(on, off, min_duration, merge_gap, multi)
    if output:
        check_target(Path(output), force=force, special=True, inputs=recordings)
    if plot:
        _check_plot(recordings[0], Path(plot), force=force)
    labels = read_labels(engine_of, words, label_file, template)
    note_missing_background(labels, multi=multi)
    if embeddings:
        _write(writer, _with_events(_kept(embeddings, recordings, labels, engine_of()), rule), output)
        return
    found = list(_with_events([_score(engine_of(), recordings[0], labels, options)], rule))
    _write(writer, found, output)
    if plot:
        _draw(engine_of(), *found[0], plot)


def _check_recordings(
    ctx: click.Context, recordings: Sequence[str], embeddings: str | None, output_format: str
) -> None:
    """Raise if it is not clear which recordings are meant, or options do not go together."""
    from clapedge.output.events import EVENT_WRITERS

    if embeddings is None:
        if len(recordings) != 1:
            raise UsageError("name one recording; several are answered from their kept windows, see --embeddings")
        return
    for name in ("window", "hop", "tower", "start", "duration", "plot"):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name} says how audio is read, and --embeddings reads none; leave one of them out")
    if EVENT_WRITERS[output_format].one_recording and len(recordings) != 1:
        raise UsageError(f"--format {output_format} holds no names of recordings; name one, or use csv or jsonl")


def _kept(
    directory: str, recordings: Sequence[str], labels: "EmbeddedLabels", engine: "Engine"
) -> "Iterator[Timeline]":
    """Yield timelines of kept windows, in the order of the recordings, or of the names of all."""
    from clapedge.audio import source_name
    from clapedge.batch.embedding_store import EmbeddingStore
    from clapedge.batch.run import timelines

    store = EmbeddingStore.open(directory)
    names = [source_name(name) for name in recordings] or sorted(store.by_file)
    missing = next((name for name in names if name not in store.by_file), None)
    if missing is not None:
        raise AudioFileNotFoundError(
            f"{missing} is not kept in {directory}; name recordings as they were when they were embedded"
        )
    return timelines(store, names, engine.scorer(labels))


def _with_events(timelines: "Iterable[Timeline]", rule: "EventRule") -> "Iterator[Found]":
    """Yield timelines with their events, and print the warnings of each recording."""
    for found in timelines:
        for sentence in found.warnings:
            note(sentence, about=found.file)
        yield found, found.events(rule)


def _score(engine: "Engine", recording: str, labels: "EmbeddedLabels", options: Mapping[str, Any]) -> "Timeline":
    """Score a recording over time, with progress."""
    from clapedge.events.timeline import default_window, window_options

    scorer, hop = engine.scorer(labels), options["hop"]
    window = default_window(hop) if options["window"] is None else options["window"]
    strips = engine.strips_for(window, scorer, options["tower"])
    span: ReadKeywords = {"start": options["start"], "duration": options["duration"]}
    reading: RecordingOptions = {**span, **window_options(window, hop, strips)}
    stream = engine.embed_stream(sys.stdin.buffer if recording == STANDARD_INPUT else recording, **reading)
    batches: list[ClipBatch] = []
    with StepProgress() as progress:
        for batch in stream:
            batches.append(batch)
            progress("", batch.position, batch.end, known=batches[0].position, sound=True)
    return engine.timeline_of(stream.join(batches), scorer, window=window)


def _check_plot(recording: str, plot: Path, *, force: bool) -> None:
    """Raise if a picture could not be drawn; called before the recording is read."""
    from clapedge.atomic_file import check_target

    if recording == STANDARD_INPUT:
        raise UsageError("--plot reads the recording a second time, which standard input cannot be; name a file")
    check_target(plot, force=force, suffixes=PLOT_SUFFIXES, inputs=[recording])
    if find_spec("matplotlib") is None:
        raise MissingExtraError("drawing a timeline", "plot")


def _writer(output_format: str, spreadsheet: "DecimalMark | None") -> "EventWriter":
    """Return what writes events in a format."""
    from clapedge.output.events import EVENT_WRITERS, CsvEvents

    check_spreadsheet(spreadsheet, writes_csv=output_format == CsvEvents.format_name)
    return CsvEvents(spreadsheet=spreadsheet) if spreadsheet else EVENT_WRITERS[output_format]


def _write(writer: "EventWriter", found: "Iterable[Found]", output: str | None) -> None:
    """Write events to standard output, or to a file that appears whole or not at all."""
    from clapedge.atomic_file import atomic_write, cannot_be_written

    if output is None:
        writer.write(found, sys.stdout)
        return
    count = 0

    def counting() -> "Iterator[Found]":
        nonlocal count
        for timeline, events in found:
            count += len(events)
            yield timeline, events

    target = Path(output)
    special = target.exists() and not target.is_file()  # a pipe or a device takes the text, and is not replaced
    with nullcontext(target) if special else atomic_write(target) as path:
        try:
            with path.open("w", encoding="utf-8", newline="\n") as stream:
                writer.write(counting(), stream)
        except ClapEdgeError:  # of the store, and an OSError too
            raise
        except OSError as error:
            raise cannot_be_written(target, error) from error
    click.echo(f"{printable(output)}: {counted(count, 'event')}", err=True)


def _draw(engine: "Engine", found: "Timeline", events: "Sequence[Event]", plot: str) -> None:
    """Draw the picture."""
    from clapedge.output import plot as timeline_plot

    front_end = engine.bundle.manifest.front_end
    picture = timeline_plot.spectrogram(found.file, found.coverage, front_end)
    timeline_plot.draw(found, events, picture, front_end, plot)
    click.echo(f"{printable(plot)}: drawn", err=True)
