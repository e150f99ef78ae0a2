"""The strips of a clip: HTSAT cuts its 10 s into four of 2.5 s, one above the other in the image that it looks at.

A sound of at most 2.5 s that is repeated to fill a clip fills each strip with nearly the same. A short tower looks at
one strip for four, or at two for a sound of at most 5 s, and takes the frames that those strips are made of.
"""

from typing import Literal, get_args

from clapedge.features.front_end import FrontEnd

Strips = Literal[1, 2]
"""Strips that a short tower looks at."""

IMAGE_STRIPS = 4
"""Strips of the whole image: 256 rows of 64 mels (`spec_size` and `num_mel_bins` of HTSAT's configuration)."""

RESIZED_FRAMES = 1024
"""Frames into which HTSAT resizes those of a clip: `spec_size` columns of each strip."""

FIRST_STRIP = {1: 1, 2: 2}
"""Which strips are looked at. Of the demo checkpoint, these come nearest to the whole: a cosine of 0.9985 and 0.9987 on
average, where the first ones have 0.9969 and 0.9983 (20 clips of ESC-10)."""

CUBIC_BEFORE, CUBIC_AFTER = 1, 2
"""Frames before and behind a position that the cubic resize reads."""


def strip_seconds(strips: int, front_end: FrontEnd) -> float:
    """Return how much sound that many strips hold, in seconds: 2.5 each."""
    return front_end.clip_seconds * strips / IMAGE_STRIPS


def resized_rows(strips: int, resized: int = RESIZED_FRAMES) -> range:
    """Return which frames of the resized clip the strips of a short tower are made of."""
    first, count = FIRST_STRIP[strips] * resized // IMAGE_STRIPS, strips * resized // IMAGE_STRIPS
    return range(first, first + count)


def strip_frames(strips: int, clip_frames: int, resized: int = RESIZED_FRAMES) -> range:
    """Return which frames of a clip a short tower takes: those that the resize reads for its strips.

    Args:
        strips: that it looks at, 1 or 2.
        clip_frames: of a clip, 1001.
        resized: frames of the resized clip.
    """
    rows = resized_rows(strips, resized)
    # the same whole-number division of positions i * (frames - 1) / (resized - 1) as `cubic_taps`, with aligned corners
    first, last = (row * (clip_frames - 1) // (resized - 1) for row in (rows[0], rows[-1]))
    return range(max(0, first - CUBIC_BEFORE), min(clip_frames, last + CUBIC_AFTER + 1))


def fitting_strips(seconds: float, front_end: FrontEnd) -> Strips | None:
    """Return the fewest strips that hold so many seconds, or None if only the whole clip does."""
    return next((strips for strips in get_args(Strips) if seconds <= strip_seconds(strips, front_end)), None)


def repeating_strips(seconds: float, front_end: FrontEnd) -> Strips | None:
    """Return the fewest strips that copies of so many seconds fill exactly, or None if no number of strips does.

    Then every strip of the whole clip holds what those hold, in the same phase but for a few frames.
    """

    def filled(strips: Strips) -> bool:
        copies = strip_seconds(strips, front_end) / seconds
        return copies >= 1 and abs(copies - round(copies)) * seconds < 1 / front_end.sample_rate

    return next((strips for strips in get_args(Strips) if filled(strips)), None)


def tower_name(strips: Strips | None) -> str:
    """Return what records call the tower that looks at so many strips of a clip; None means all of it."""
    return "whole" if strips is None else f"{strips} strip{'s' * (strips > 1)}"
