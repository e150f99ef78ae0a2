"""The picture of a recording: its waveform and the log-mel that the model gets."""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clapedge import audio
from clapedge.arrays import Float32Array, Float64Array
from clapedge.audio import AudioSource, ReadOptions
from clapedge.features.clips import ClipMaker
from clapedge.features.frame_buffer import stream_log_mels
from clapedge.features.log_mel import FLOOR

COLUMNS = 800
"""Columns of a picture: at least this many, if the recording has them, and fewer than twice as many."""

PEAK_SAMPLES = 48
"""Samples (1 ms) that are reduced to the highest and the lowest at once, before columns are joined."""

DECIBEL_RANGE = 80.0
"""Decibels below the loudest that are still distinguished; less is drawn as silence."""


@dataclass(frozen=True)
class Picture:
    """A recording, to be drawn; arrays are Base64, since JSON has no bytes.

    Attributes:
        end: end of the picture in seconds; it begins with the recording.
        of: length of the whole recording in seconds.
        waveform: (columns, 2) int8, highest and lowest sample of each column, 127 at full scale.
        mel: (columns, bands) uint8, mean power of each column, 0 at `DECIBEL_RANGE` below the loudest, 255 there.
        hertz: middle frequency of each band.
        warnings: sentences about the recording.
    """

    end: float
    of: float
    waveform: str
    mel: str
    hertz: tuple[int, ...]
    warnings: tuple[str, ...]


class Drawing:
    """Draws a recording while reading it as a stream: iterate it to its end, then get the picture."""

    def __init__(self, source: AudioSource, clip_maker: ClipMaker, *, max_seconds: float | None = None) -> None:
        """Prepare to read a recording.

        Args:
            source: a path, bytes, a file object, or samples.
            clip_maker: the front end of the bundle.
            max_seconds: seconds to read at most; None reads to the end.
        """
        self._source, self._log_mel, self._max_seconds = source, clip_maker.log_mel, max_seconds
        self._peaks, self._powers = Columns(np.maximum), Columns(np.add)
        self._end = self._duration = 0.0
        self._warnings: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[None]:
        """Read the recording, a few seconds per step.

        Raises:
            AudioError: it cannot be used.
        """
        with audio.opened(self._source, ReadOptions(duration=self._max_seconds)) as stream:
            for frames in stream_log_mels(_collecting_peaks(stream, self._peaks), self._log_mel):
                # the last column counts the frames
                self._powers.add(np.pad(10.0 ** (frames / 10.0), ((0, 0), (0, 1)), constant_values=1.0))
                yield
            self._end, self._duration, self._warnings = stream.end, stream.duration, stream.warnings

    def picture(self) -> Picture:
        """Return the picture, once all is read."""
        highest, lowest = self._peaks.rows().T * ((1.0,), (-1.0,))
        summed = self._powers.rows().reshape(-1, self._log_mel.n_mels + 1)  # a recording may have no frame
        return Picture(
            end=round(self._end, 3),
            of=round(self._duration, 3),
            waveform=_text(np.stack([highest, lowest], axis=1).clip(-1, 1) * 127, np.int8),
            mel=_text(_shades(summed[:, :-1] / np.maximum(summed[:, -1:], 1)), np.uint8),
            hertz=tuple(round(hertz) for hertz in self._log_mel.centres.tolist()),
            warnings=self._warnings,
        )


class Columns:
    """Joins rows of a stream into columns, of twice as many rows each whenever there are too many columns.

    So a recording of unknown length needs no more memory than its picture.
    """

    def __init__(self, join: np.ufunc, most: int = 2 * COLUMNS) -> None:
        """Begin with one row per column.

        Args:
            join: reduces rows to one.
            most: number of columns, even, at which neighbours are joined.
        """
        self._join, self._most, self._each = join, most, 1
        self._columns: list[Float64Array] = []
        self._rest = np.empty((0, 0))

    def add(self, rows: npt.NDArray[np.floating]) -> None:
        """Add rows (n, k)."""
        while len(rows):
            room = (self._most - len(self._columns)) * self._each - len(self._rest)
            rest = np.concatenate([self._rest, rows[:room]]) if len(self._rest) else np.asarray(rows[:room])
            rows, whole = rows[room:], len(rest) // self._each
            grouped = rest[: whole * self._each].reshape(whole, self._each, rest.shape[1])
            self._columns.extend(self._join.reduce(grouped, axis=1))
            self._rest = rest[whole * self._each :]
            if len(self._columns) == self._most:
                self._columns = list(self._join(self._columns[::2], self._columns[1::2]))
                self._each *= 2

    def rows(self) -> Float64Array:
        """Return the columns (columns, k) of the rows so far."""
        last = [self._join.reduce(self._rest, axis=0)] if len(self._rest) else []
        return np.asarray([*self._columns, *last], np.float64)


def _collecting_peaks(blocks: Iterable[Float32Array], peaks: Columns) -> Iterator[Float32Array]:
    """Yield blocks, adding their highest and lowest samples to columns."""
    rest = np.empty(0, np.float32)
    for block in blocks:
        samples = np.concatenate([rest, block])
        whole = len(samples) // PEAK_SAMPLES * PEAK_SAMPLES
        grouped = samples[:whole].reshape(-1, PEAK_SAMPLES)
        peaks.add(np.stack([grouped.max(axis=1), -grouped.min(axis=1)], axis=1))
        rest = samples[whole:]
        yield block
    if len(rest):
        peaks.add(np.array([[rest.max(), -rest.min()]]))


def _shades(power: Float64Array) -> Float64Array:
    """Return the shades, from 0 to 255, of powers."""
    level = 10.0 * np.log10(np.maximum(power, FLOOR))
    loudest = level.max(initial=10.0 * np.log10(FLOOR))
    return np.asarray(255.0 * np.clip(1.0 + (level - loudest) / DECIBEL_RANGE, 0.0, 1.0))


def _text(values: Float64Array, kind: type[np.int8 | np.uint8]) -> str:
    """Return an array as Base64 of integers."""
    return b64encode(np.rint(values).astype(kind).tobytes()).decode("ascii")
