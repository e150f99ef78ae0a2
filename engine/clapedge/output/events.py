"""Events of a recording to text: one class an output format, each with one method."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, TextIO, TypeAlias

import msgspec

from clapedge.events.event import Event
from clapedge.events.timeline import Timeline
from clapedge.output.columns import EVENT_COLUMNS, event_record
from clapedge.output.csv_rows import CsvRows, DecimalMark
from clapedge.terminal import counted, printable

MILLISECONDS = 3
"""Decimals of a time in seconds: a window's place is not known better."""

RAVEN_COLUMNS = (
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Label",
    "Probability",
    "Similarity",
)
"""The columns that Raven needs of a selection table, and ours, which it shows as annotations."""

LOWEST_HERTZ, HIGHEST_HERTZ = 50, 14_000
"""The band of CLAP's mels; a label has no band of its own."""


Found: TypeAlias = tuple[Timeline, Sequence[Event]]
"""A recording's timeline and the events in it, in the order in which they begin."""


class EventWriter:
    """Writes the events of recordings to a stream."""

    format_name: ClassVar[str]
    one_recording: ClassVar[bool] = False
    """Whether the format has no place for the name of a recording, so that it takes exactly one."""

    def write(self, found: Iterable[Found], stream: TextIO) -> None:
        """Write the events of recordings, which are taken one by one."""
        raise NotImplementedError


class TableEvents(EventWriter):
    """For people."""

    format_name = "table"

    def write(self, found: Iterable[Found], stream: TextIO) -> None:
        """Write, for each recording, a heading, a line an event, and what made them."""
        for timeline, events in found:
            coverage, made = timeline.coverage, timeline.provenance
            span = f"{coverage.start:g}-{coverage.end:g} s of {coverage.duration:g} s"
            print(f"{printable(timeline.file)}  {span}", file=stream)
            for event in events:
                when = f"{_clock(event.start)} - {_clock(event.end)}  {event.end - event.start:7.1f} s"
                scores = f"{event.probability:6.1%}  {event.similarity:+.3f}"
                print(f"  {when}  {scores}  {printable(event.label)}", file=stream)
            count = f"{counted(len(events), 'event')} in {counted(len(timeline.centres), 'window')}"
            made_by = f"{printable(made.model)} {made.variant} on {made.provider} · {made.weights} weights"
            print(f"  {count} · {made_by}", file=stream)


class CsvEvents(EventWriter):
    """For programs and spreadsheets; see docs/timeline.md for the columns."""

    format_name = "csv"

    def __init__(self, *, spreadsheet: DecimalMark | None = None) -> None:
        """Set the decimal mark of the spreadsheet that opens it, see `CsvRows`."""
        self._spreadsheet = spreadsheet

    def write(self, found: Iterable[Found], stream: TextIO) -> None:
        """Write the names of the columns and a row an event."""
        rows = CsvRows(stream, spreadsheet=self._spreadsheet)
        rows.write(column.name for column in EVENT_COLUMNS)
        for record in _records(found):
            rows.write(record.values())


class JsonLinesEvents(EventWriter):
    """For programs; the fields are the columns of CSV."""

    format_name = "jsonl"

    def write(self, found: Iterable[Found], stream: TextIO) -> None:
        """Write a record an event."""
        for record in _records(found):
            print(msgspec.json.encode(record).decode(), file=stream)


class AudacityLabels(EventWriter):
    """For Audacity: File, Import, Labels. Start, end and text, separated by tabs."""

    format_name = "audacity"
    one_recording = True

    def write(self, found: Iterable[Found], stream: TextIO) -> None:
        """Write a line an event."""
        ((_, events),) = found
        for event in events:
            print(f"{event.start:.6f}\t{event.end:.6f}\t{_one_line(event.label)}", file=stream)


class RavenSelections(EventWriter):
    """For Raven: a selection table, separated by tabs."""

    format_name = "raven"
    one_recording = True

    def write(self, found: Iterable[Found], stream: TextIO) -> None:
        """Write the names of the columns and a line an event."""
        ((_, events),) = found
        print("\t".join(RAVEN_COLUMNS), file=stream)
        for number, event in enumerate(events, 1):
            where = ("Spectrogram 1", 1, f"{event.start:.6f}", f"{event.end:.6f}", LOWEST_HERTZ, HIGHEST_HERTZ)
            what = (_one_line(event.label), f"{event.probability:.4f}", f"{event.similarity:.4f}")
            print(number, *where, *what, sep="\t", file=stream)


class WebVtt(EventWriter):
    """For players: subtitles that name the events."""

    format_name = "webvtt"
    one_recording = True

    def write(self, found: Iterable[Found], stream: TextIO) -> None:
        """Write a cue an event."""
        ((_, events),) = found
        print("WEBVTT", file=stream)
        for event in events:
            text = _one_line(event.label).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            times = f"{_clock(event.start, MILLISECONDS)} --> {_clock(event.end, MILLISECONDS)}"
            print(f"\n{times}\n{text} ({event.probability:.0%})", file=stream)


EVENT_WRITERS = {
    writer.format_name: writer()
    for writer in (TableEvents, CsvEvents, JsonLinesEvents, AudacityLabels, RavenSelections, WebVtt)
}
"""Every output format by its name."""


def _records(found: Iterable[Found]) -> Iterator[dict[str, Any]]:
    """Yield the record of each event of some recordings."""
    for timeline, events in found:
        for event in events:
            yield event_record(timeline.file, event, timeline.provenance)


def _one_line(label: str) -> str:
    """Return a label without what would end its cell or line, or what a terminal would obey."""
    return printable(" ".join(label.split()))


def _clock(seconds: float, decimals: int = 2) -> str:
    """Return a time as hh:mm:ss with decimals."""
    units = 10**decimals
    whole, part = divmod(round(seconds * units), units)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}.{part:0{decimals}}"
