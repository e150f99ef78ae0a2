"""What the engine answers: the scores of one recording, and how they came about."""

from dataclasses import dataclass

from clapedge.scoring import Score


@dataclass(frozen=True)
class Heard:
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
        ms: where the time went.
    """

    file: str
    labels: tuple[Score, ...]
    unsure: bool
    heard: Heard
    warnings: tuple[str, ...]
    model: str
    weights: str
    variant: str
    provider: str
    ms: Timing

    @property
    def top(self) -> Score:
        """The best label."""
        return self.labels[0]
