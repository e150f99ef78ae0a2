"""A recording, wherever it comes from, to mono float32 samples at 48 kHz.

Only the requested span is read: the decoder seeks to it, and the resampler reads a margin on both sides, so that the
samples are those of the same span of the whole recording. Reading is block by block, so that its cost is that of the
span; `read` joins the blocks, `opened` yields them.
"""

from clapedge.audio.array_decoder import BlockDecoder
from clapedge.audio.options import ReadOptions, Resample
from clapedge.audio.recording import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, Recording, opened, read
from clapedge.audio.sources import AudioSource, source_name
from clapedge.audio.stream import SAMPLE_RATE, Stream

__all__ = [
    "MAX_SAMPLE_RATE",
    "MIN_SAMPLE_RATE",
    "SAMPLE_RATE",
    "AudioSource",
    "BlockDecoder",
    "ReadOptions",
    "Recording",
    "Resample",
    "Stream",
    "opened",
    "read",
    "source_name",
]
