"""A timeline as a picture: the spectrogram, and under it what each label scores (extra `plot`)."""

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clapedge import audio
from clapedge.arrays import Float32Array
from clapedge.atomic_file import atomic_write
from clapedge.audio import AudioSource, ReadOptions
from clapedge.errors import ClapEdgeWarning, MissingExtraError
from clapedge.events.event import Event
from clapedge.events.timeline import Timeline
from clapedge.features.clips import ClipMaker
from clapedge.features.frame_buffer import stream_log_mels
from clapedge.features.front_end import FrontEnd
from clapedge.features.log_mel import FLOOR
from clapedge.scoring.result import Coverage
from clapedge.terminal import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 1600
"""Columns of the spectrogram, each the mean power of its part of the recording: as many as a wide screen shows."""

TICKS_HERTZ = (100, 500, 1000, 2000, 5000, 10_000)

LONGEST_IN_SECONDS = 120
"""Seconds of a span up to which the axis of time is in seconds; people read a longer one by the clock."""

TICK_SECONDS = (10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
"""Distances of marks on that axis: parts and multiples of minutes, and whole hours beyond."""

MOST_TICKS = 13
"""So many marks of seven letters do not touch in a picture of 14 inches."""

DECIBEL_RANGE = 80.0
"""What is further below the loudest is drawn as silence."""

WIDE_FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Microsoft YaHei", "PingFang SC", "SimHei")
"""Fonts that have Chinese, Japanese and Korean characters, one of which most systems have."""


def spectrogram(source: AudioSource, coverage: Coverage, front_end: FrontEnd, columns: int = COLUMNS) -> Float32Array:
    """Return the mean log-mel (columns, n_mels) in dB of the parts of a recording, read as a stream.

    Args:
        source: the recording; it is read again.
        coverage: the span to draw.
        front_end: the mels.
        columns: how many parts, at most one a frame.
    """
    log_mel, duration = ClipMaker(front_end).log_mel, coverage.end - coverage.start
    frames = duration * front_end.sample_rate / front_end.hop_length
    columns = max(1, min(columns, int(frames)))
    power, counts = np.zeros((columns, front_end.n_mels)), np.zeros(columns)
    with audio.opened(source, ReadOptions(start=coverage.start, duration=duration or None)) as stream:
        first = 0
        for mels in stream_log_mels(stream, log_mel):
            positions = np.arange(first, first + len(mels)) + 0.5
            column = np.minimum((positions / frames * columns).astype(int), columns - 1)
            np.add.at(power, column, 10.0 ** (mels / 10.0))
            np.add.at(counts, column, 1)
            first += len(mels)
    return np.asarray(10.0 * np.log10(np.maximum(power / np.maximum(counts, 1)[:, None], FLOOR)), np.float32)


def draw(
    timeline: Timeline,
    events: Sequence[Event],
    picture: Float32Array,
    front_end: FrontEnd,
    path: str | os.PathLike[str],
) -> None:
    """Draw a timeline into a file, whose name decides the format; it appears whole or not at all.

    Args:
        timeline: what to draw.
        events: those to mark.
        picture: its `spectrogram`.
        front_end: the mels of the picture.
        path: ending in .png, .svg or .pdf.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: the file cannot be written.
    """
    try:
        from matplotlib import font_manager, rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing a timeline", "plot") from error
    installed = {font.name for font in font_manager.fontManager.ttflist}
    families = ["DejaVu Sans", *(name for name in WIDE_FONTS if name in installed)]
    with rc_context({"font.family": families}):
        rows = len(timeline.labels)
        figure = Figure(figsize=(14, 4 + 0.5 * rows), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 0.5 * rows + 1])
        _draw_spectrogram(upper, timeline, picture, front_end)
        _draw_labels(lower, timeline, events)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _save(figure, Path(path))
    if any("missing from font" in str(warning.message) for warning in caught):
        warnings.warn(
            f"no installed font has all characters of the names, so {path} shows boxes; install one, such as "
            f"{WIDE_FONTS[0]}",
            ClapEdgeWarning,
            stacklevel=2,
        )


def _save(figure: "Figure", target: Path) -> None:
    """Write a figure, whole or not at all."""
    with atomic_write(target) as temporary:
        figure.savefig(temporary, dpi=110, format=target.suffix.lower().removeprefix("."))


def _draw_spectrogram(axes: "Axes", timeline: Timeline, picture: Float32Array, front_end: FrontEnd) -> None:
    """Draw mels over time, with frequencies beside them."""
    coverage, top = timeline.coverage, float(picture.max())
    centres = ClipMaker(front_end).log_mel.centres
    axes.imshow(
        picture.T,
        origin="lower",
        aspect="auto",
        extent=(coverage.start, coverage.end, -0.5, front_end.n_mels - 0.5),
        vmin=top - DECIBEL_RANGE,
        vmax=top,
        cmap="magma",
        interpolation="nearest",
    )
    bands = [int(np.abs(centres - hertz).argmin()) for hertz in TICKS_HERTZ]
    axes.set_yticks(bands, [f"{hertz / 1000:g}" for hertz in TICKS_HERTZ])
    axes.set_ylabel("kHz (mel)")
    made = timeline.provenance
    made_by = f"{printable(made.model)} {made.variant} · {made.weights} weights"
    axes.set_title(f"{printable(timeline.file)} · {made_by}", loc="left")


def _draw_labels(axes: "Axes", timeline: Timeline, events: Sequence[Event]) -> None:
    """Draw a row a label, the first one on top: its probability as an area, its events as bars."""
    rows = len(timeline.labels)
    for index, label in enumerate(timeline.labels):
        base = rows - 1 - index
        colour = f"C{index % 10}"
        height = base + 0.85 * timeline.probabilities[:, index]
        axes.fill_between(timeline.edges, base, np.append(height, height[-1]), step="post", color=colour, alpha=0.6)
        bars = [(event.start, event.end - event.start) for event in events if event.label == label]
        axes.broken_barh(bars, (base - 0.1, 0.1), color=colour)
        axes.axhline(base, color="0.8", linewidth=0.5)
    axes.set_yticks([rows - 1 - index + 0.4 for index in range(rows)], [*map(printable, timeline.labels)])
    axes.set_ylim(-0.2, rows)
    axes.set_xlim(timeline.coverage.start, timeline.coverage.end)
    ticks = time_ticks(timeline.coverage)
    if ticks:
        axes.set_xticks(list(ticks), list(ticks.values()))
    unit = "h:mm:ss" if ticks else "seconds"
    axes.set_xlabel(f"{unit} · height: probability, bar: event")


def time_ticks(coverage: Coverage) -> dict[float, str]:
    """Return where a clock is written on the axis of a long span, and what; of a span in seconds, nothing."""
    length = coverage.end - coverage.start
    if length <= LONGEST_IN_SECONDS:
        return {}
    step = next((step for step in TICK_SECONDS if length / step <= MOST_TICKS), TICK_SECONDS[-1])
    step *= math.ceil(length / step / MOST_TICKS)
    first = math.ceil(coverage.start / step)
    seconds = [index * step for index in range(first, math.floor(coverage.end / step) + 1)]
    return {second: f"{second // 3600}:{second // 60 % 60:02}:{second % 60:02}" for second in seconds}
