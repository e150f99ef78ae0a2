"""What the engine answers: the scores of one recording, and how they came about."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clapedge.scoring.decision import Score

if TYPE_CHECKING:
    from clapedge.arrays import Float32Array


@dataclass(frozen=True)
class Coverage:
    """The span of a recording that was heard, and its whole length, in seconds."""

    start: float
    end: float
    of: float


@dataclass(frozen=True)
class Timing:
    """Milliseconds spent on one recording."""

    decode: float
    frontend: float
    tower: float
    total: float


@dataclass(frozen=True, eq=False)
class RecordingEmbeddings:
    """What listening to one recording came to, before any label is known.

    Attributes:
        clips: (N, E) float32, the unit embedding of each clip.
        spans: what each clip hears, in seconds of the recording.
        heard: the span that all of them hear.
        warnings: sentences about the recording.
        decode: seconds spent on reading and resampling.
        frontend: seconds spent on log-mels.
    """

    clips: "Float32Array"
    spans: tuple[tuple[float, float], ...]
    heard: Coverage
    warnings: tuple[str, ...]
    decode: float
    frontend: float

    @property
    def embedding(self) -> "Float32Array":
        """The one embedding (E,) of the recording."""
        from clapedge.scoring import similarity as scoring

        return scoring.merge(self.clips)


@dataclass(frozen=True)
class Result:
    """The scores of one recording; its fields are those of a JSON record.

    Attributes:
        file: path or kind of the source.
        labels: the labels that are not hidden, best first.
        unsure: whether the two best are too close to choose between.
        heard: the span that the scores speak of.
        warnings: sentences about the recording.
        model: model id of the bundle.
        weights: `pretrained`, `random` or `demo`.
        variant: precision of the audio tower.
        provider: where the tower ran.
        ms: where the time went; None in a batch, whose rows are the same in every run.
    """

    file: str
    labels: tuple[Score, ...]
    unsure: bool
    heard: Coverage
    warnings: tuple[str, ...]
    model: str
    weights: str
    variant: str
    provider: str
    ms: Timing | None

    @property
    def top(self) -> Score:
        """The best label."""
        return self.labels[0]


AUDIBLE_REST = 0.05
"""Seconds that may go unheard without a word: less than any event."""


def unheard(heard: Coverage, until: float) -> list[str]:
    """Say how much was not heard of the span that was asked for, which lasts until so many seconds."""
    rest = until - heard.end
    if rest < AUDIBLE_REST:
        return []
    return [
        (
            f"heard {heard.start:g} to {heard.end:g} s, not the remaining {rest:.1f} s; "
            "--window slide or fuse hears all of it"
        )
    ]
