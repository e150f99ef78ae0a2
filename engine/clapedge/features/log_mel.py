"""Samples to log-mel: NumPy alone, exact to the reference extractor of transformers. Knows nothing of clips.

A frame is `n_fft` samples under a periodic Hann window, one every `hop_length` samples, centred: the signal is
reflected by half a window at each end, so L samples give `1 + L // hop_length` frames.

Frames are transformed in blocks that stay in the processor's cache. The Fourier transform is in float64: a float32 one
spreads the rounding of the loudest bin over all others, which moves bands 60 dB below it by up to 0.05 dB and those
100 dB below it by 1 dB. From the bins on, everything is a sum of positive numbers: float32 serves, as in the reference.
"""

import inspect
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from clapedge.arrays import Float32Array, Float64Array

FLOOR = np.float32(1e-10)
"""Least mel power, so that silence is -100 dB (`mel_floor` of the reference)."""

DECIBELS = np.float32(10.0 / np.log(10.0))
"""Decibels of power in one unit of natural logarithm, which is the one that NumPy vectorises."""

BLOCK_FRAMES = 144
"""Frames transformed at once: few enough for the cache, enough to hide the cost of a call; 7 blocks make a clip.

Matrix products always see a full block, and 144 is a multiple of the 4, 8, 12 or 16 rows that a BLAS kernel takes in
one step: every row goes through the same code, so that a frame has the same bits wherever it lies in a recording.
"""

GROUP_BANDS = 8
"""Bands weighed in one product, over their own bins alone: most of the bank is zero.

A product of a block with so few bands is also below the size from which OpenBLAS wakes its threads (2**18
multiplications), which would cost more than they bring and disturb those of ONNX Runtime.
"""

RFFT_TAKES_OUT = "out" in inspect.signature(np.fft.rfft).parameters
"""Whether NumPy transforms into an array that is there already (since 2.0)."""


@dataclass(frozen=True)
class _Group:
    """Neighbouring bands and the bins that they weigh: `mels[:, bands] = power[:, bins] @ weights`."""

    bands: slice
    bins: slice
    weights: Float32Array


class LogMel:
    """The log-mel transform of one front end. Immutable, so that threads may share it."""

    def __init__(
        self,
        *,
        sample_rate: int = 48_000,
        n_fft: int = 1024,
        hop_length: int = 480,
        n_mels: int = 64,
        f_min: float = 50.0,
        f_max: float = 14_000.0,
        mel_scale: Literal["htk", "slaney"] = "htk",
    ) -> None:
        """Prepare window and mel bank; the defaults are those of `laion/clap-htsat-fused`.

        Args:
            sample_rate: Hz of the samples.
            n_fft: samples per frame.
            hop_length: samples from one frame to the next.
            n_mels: number of mel bands.
            f_min: lower edge of the lowest band in Hz.
            f_max: upper edge of the highest band in Hz.
            mel_scale: `htk` (bands of unit height) or `slaney` (bands of unit area).
        """
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.n_mels = n_mels
        self._window = np.hanning(n_fft + 1)[:-1]
        bank = mel_bank(sample_rate, n_fft, n_mels, f_min, f_max, mel_scale)
        self.centres = bank.argmax(axis=0) * sample_rate / n_fft
        """Hz at which each band is most sensitive, (n_mels,)."""
        self._bins = _support(bank)
        self._groups = _grouped(bank[self._bins])

    def frames(self, samples: int) -> int:
        """Return the number of frames that so many samples give."""
        return 1 + samples // self.hop_length

    def __call__(self, samples: Float32Array) -> Float32Array:
        """Transform samples (L,) float32 in ±1 to log-mels (1 + L // hop_length, n_mels) float32 in dB.

        The same frame gives the same bits at any offset, in a recording of any length, from any thread. Beyond the
        result, a call needs one block's scratch (3 MB), however long the recording.

        Raises:
            ValueError: the signal is too short to be reflected (n_fft // 2 samples or fewer).
        """
        half = self.n_fft // 2
        if samples.ndim != 1 or len(samples) <= half:
            raise ValueError(f"expected more than {half} samples in one dimension, found shape {samples.shape}")
        mels = np.empty((self.frames(len(samples)), self.n_mels), np.float32)
        block = _Block(self.n_fft, self.hop_length, self._bins, self.n_mels)
        for first in range(0, len(mels), BLOCK_FRAMES):
            count = min(BLOCK_FRAMES, len(mels) - first)
            block.load(samples, first * self.hop_length - half, count)
            block.transform(self._window, count)
            whole = count == BLOCK_FRAMES
            decibels = mels[first : first + count] if whole else block.mels
            block.weigh(self._groups, decibels)
            if not whole:
                mels[first:] = decibels[:count]
        return mels


class _Block:
    """The scratch in which the frames of a block are transformed, step by step, without further allocation."""

    def __init__(self, n_fft: int, hop_length: int, bins: slice, n_mels: int) -> None:
        """Make the arrays; the power that a short block leaves unfilled must still be numbers."""
        self._hop_length = hop_length
        self._samples = np.empty(n_fft + (BLOCK_FRAMES - 1) * hop_length)
        self._frames = sliding_window_view(self._samples, n_fft)[::hop_length]
        self._windowed = np.empty((BLOCK_FRAMES, n_fft))
        self._spectra = np.empty((BLOCK_FRAMES, n_fft // 2 + 1), np.complex128)
        self._bins = bins
        self._used = np.empty((BLOCK_FRAMES, bins.stop - bins.start), np.complex64)
        self._power = np.zeros(self._used.shape, np.float32)
        self.mels = np.empty((BLOCK_FRAMES, n_mels), np.float32)

    def load(self, samples: Float32Array, start: int, count: int) -> None:
        """Take the samples under `count` frames, the first of which begins at `start`; reflect what lies beyond."""
        stop = start + self._frames.shape[1] + (count - 1) * self._hop_length
        target = self._samples[: stop - start]
        before, after = max(0, -start), max(0, stop - len(samples))
        target[before : len(target) - after] = samples[start + before : stop - after]
        target[:before] = samples[before:0:-1]
        target[len(target) - after :] = samples[-2 : -2 - after : -1]

    def transform(self, window: Float64Array, count: int) -> None:
        """Compute the power of the used bins of each frame."""
        windowed = np.multiply(self._frames[:count], window, out=self._windowed[:count])
        spectra = np.fft.rfft(windowed, out=self._spectra[:count]) if RFFT_TAKES_OUT else np.fft.rfft(windowed)
        used = self._used[:count]
        used[:] = spectra[:, self._bins]
        parts = used.view(np.float32)
        np.square(parts, out=parts)
        np.add(parts[:, ::2], parts[:, 1::2], out=self._power[:count])

    def weigh(self, groups: tuple[_Group, ...], mels: Float32Array) -> None:
        """Sum the power of each band into `mels` (BLOCK_FRAMES, n_mels), in dB."""
        for group in groups:
            np.matmul(self._power[:, group.bins], group.weights, out=mels[:, group.bands])
        np.maximum(mels, FLOOR, out=mels)
        np.log(mels, out=mels)
        np.multiply(mels, DECIBELS, out=mels)


def _support(bank: Float64Array) -> slice:
    """Return the bins (rows) from the first to the last that any band weighs."""
    used = np.flatnonzero(bank.any(axis=1))
    return slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0)


def _grouped(bank: Float64Array) -> tuple[_Group, ...]:
    """Cut a bank (bins, bands) into groups of bands, each with its own bins alone."""
    groups = []
    for first in range(0, bank.shape[1], GROUP_BANDS):
        bands = slice(first, first + GROUP_BANDS)
        bins = _support(bank[:, bands])
        groups.append(_Group(bands, bins, np.ascontiguousarray(bank[bins, bands], np.float32)))
    return tuple(groups)


def mel_bank(
    sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float, mel_scale: Literal["htk", "slaney"]
) -> Float64Array:
    """Return the triangular mel filters (1 + n_fft // 2, n_mels): column m weighs the power bins of band m.

    Triangles rise and fall linearly in Hz between neighbouring corner frequencies that are equidistant in mel
    (`mel_filter_bank` of transformers with `norm=None` for htk and `norm="slaney"` for slaney).
    """
    to_mel, to_hertz = (_htk_mel, _htk_hertz) if mel_scale == "htk" else (_slaney_mel, _slaney_hertz)
    edges = to_mel(np.array([f_min, f_max]))
    corners = to_hertz(np.linspace(edges[0], edges[1], n_mels + 2))
    bins = np.linspace(0, sample_rate // 2, 1 + n_fft // 2)
    slopes = corners - bins[:, None]
    widths = np.diff(corners)
    bank = np.maximum(0.0, np.minimum(-slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]))
    return bank if mel_scale == "htk" else bank * (2.0 / (corners[2:] - corners[:-2]))


def _htk_mel(hertz: Float64Array) -> Float64Array:
    """Convert Hz to mel by O'Shaughnessy's formula, as HTK does."""
    return 2595.0 * np.log10(1.0 + hertz / 700.0)


def _htk_hertz(mel: Float64Array) -> Float64Array:
    """Convert mel to Hz: the inverse of `_htk_mel`."""
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


SLANEY_KNEE_HERTZ = 1000.0
"""Slaney's scale (Auditory Toolbox, 1998) is linear below this and logarithmic above it."""
SLANEY_KNEE_MEL = 15.0
"""Mel at the knee: 3 mel per 200 Hz below it."""
SLANEY_LOG_STEP = np.log(6.4) / 27.0
"""Natural logarithm of the frequency ratio of one mel above the knee."""


def _slaney_mel(hertz: Float64Array) -> Float64Array:
    """Convert Hz to mel on Slaney's scale."""
    above = SLANEY_KNEE_MEL + np.log(np.maximum(hertz, SLANEY_KNEE_HERTZ) / SLANEY_KNEE_HERTZ) / SLANEY_LOG_STEP
    return np.where(hertz < SLANEY_KNEE_HERTZ, 3.0 * hertz / 200.0, above)


def _slaney_hertz(mel: Float64Array) -> Float64Array:
    """Convert mel to Hz: the inverse of `_slaney_mel`."""
    above = SLANEY_KNEE_HERTZ * np.exp(SLANEY_LOG_STEP * (np.maximum(mel, SLANEY_KNEE_MEL) - SLANEY_KNEE_MEL))
    return np.where(mel < SLANEY_KNEE_MEL, 200.0 * mel / 3.0, above)
