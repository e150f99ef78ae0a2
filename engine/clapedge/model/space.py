"""One name for an embedding space: `WORDS-SOUNDS-VARIANT`, such as `1f0c7a52-9be4d310-int8`.

Embeddings of clips may be mixed, in one archive or in one mean, where the whole names are equal: the cosine of one clip
embedded twice is then at least 0.9999, where the variant reproduces (measured for FP32 and INT8, see docs/bundle.md).
Each variant is a space of its own, since an export promises less between two: a cosine of 0.995 from FP32 to INT8, and
of 0.9999 from FP32 to FP16, which leaves 0.9996 where errors add up. Two INT8 files, exported and calibrated, differ as
much as INT8 and FP32.

Labels are compared with clips, never mixed with them, and every variant of a model is trained on one text tower: labels
fit where the first parts of the names are equal.
"""

import hashlib

import msgspec

from clapedge.features.front_end import FrontEnd

RULES = {"windowing": "10 s clips, see clapedge.features.clips", "pooling": "mean of unit rows, normalised"}
"""How a recording becomes clips, and clips one embedding. Whoever changes what is computed changes these words."""

SAME_COSINE = 0.9999
"""Least cosine of the embeddings of one clip in spaces of equal names."""

PART = 8
"""Hexadecimal digits of a part: 32 bits, so that two of a thousand models share one by a chance of 1 in 8,600."""


def words_space(text_tower: str | None) -> str:
    """Return the name of the space of labels, the first part of every name.

    Args:
        text_tower: SHA-256 of the text tower's FP32 file, see `Manifest.text_tower`.
    """
    return _digest({"text_tower": text_tower or ""})


def clip_space(*, text_tower: str | None, audio_tower: str, front_end: FrontEnd, variant: str) -> str:
    """Return the name of the space of clips.

    Args:
        text_tower: SHA-256 of the text tower's FP32 file.
        audio_tower: SHA-256 of the audio tower's file, that for every provider.
        front_end: parameters of the log-mels and the length of a clip.
        variant: precision of the audio tower.
    """
    sounds = {"audio_tower": audio_tower, "front_end": msgspec.to_builtins(front_end), **RULES}
    return f"{words_space(text_tower)}-{_digest(sounds)}-{variant}"


def words_of(space: str) -> str:
    """Return the first part of a name: the space of labels."""
    return space.partition("-")[0]


def _digest(facts: dict[str, object]) -> str:
    """Return the first digits of the SHA-256 of facts, as JSON with sorted keys."""
    text = msgspec.json.format(msgspec.json.encode(facts, order="deterministic"), indent=0)
    return hashlib.sha256(text).hexdigest()[:PART]
