"""What the engine answers: the scores of one recording, and how they came about."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clapedge.scoring.decision import DecidedScore, Score

if TYPE_CHECKING:
    from clapedge.arrays import Float32Array
    from clapedge.features.front_end import Frontend
    from clapedge.features.strips import Strips


@dataclass(frozen=True)
class Coverage:
    """The span of a recording that clips cover, and the length of the whole recording, in seconds."""

    start: float
    end: float
    duration: float

    def to_dict(self) -> dict[str, float]:
        """Return the object that records hold as `heard`."""
        return {"start": self.start, "end": self.end, "of": self.duration}


@dataclass(frozen=True)
class Timing:
    """Milliseconds spent on one recording."""

    decode: float
    frontend: float
    tower: float
    total: float


UNTIMED = Timing(0.0, 0.0, 0.0, 0.0)
"""Of a recording that was embedded at another time, or elsewhere."""


@dataclass(frozen=True)
class Provenance:
    """What made an answer.

    Attributes:
        model: model id of the bundle.
        weights: `pretrained`, `random` or `demo`.
        variant: precision of the audio tower.
        provider: where the tower ran.
        space: name of the embedding space, see `clapedge.model.space`; empty in records of older versions.
        frontend: what made the log-mels.
        tower: `whole`, or how much of a clip a short tower looked at: `1 strip` or `2 strips`.
    """

    model: str
    weights: str
    variant: str
    provider: str
    space: str = ""
    frontend: "Frontend" = "numpy"
    tower: str = "whole"

    def to_dict(self) -> dict[str, str]:
        """Return the fields as records hold them, beside those of the answer; what is usual is left out."""
        usual = {("frontend", "numpy"), ("tower", "whole")}
        return {name: value for name, value in vars(self).items() if (name, value) not in usual}


@dataclass(frozen=True, eq=False)
class RecordingEmbeddings:
    """The embeddings of one recording, before any label is known.

    Attributes:
        file: path or kind of the source.
        clips: (N, E) float32, the unit embedding of each clip.
        spans: what each clip covers, in seconds of the recording.
        coverage: the span that all of them cover.
        warnings: sentences about the recording.
        timing: where the time went.
        frontend: what made the log-mels.
        strips: of the clip that a short tower looked at; None of the whole tower.
    """

    file: str
    clips: "Float32Array"
    spans: tuple[tuple[float, float], ...]
    coverage: Coverage
    warnings: tuple[str, ...]
    timing: Timing
    frontend: "Frontend" = "numpy"
    strips: "Strips | None" = None

    @property
    def embedding(self) -> "Float32Array":
        """The one embedding (E,) of the recording: the mean of its clips', normalised again."""
        from clapedge.scoring.similarity import mean_embedding

        return mean_embedding(self.clips)


@dataclass(frozen=True)
class Result:
    """The scores of one recording.

    Attributes:
        file: path or kind of the source.
        labels: the labels that are not hidden, best first.
        unsure: whether the two best are too close to choose between.
        coverage: the span that the scores speak of.
        warnings: sentences about the recording.
        provenance: what made the scores.
        timing: where the time went; None in a batch, whose rows are the same in every run.
        fit: how well the best label fits at all: its similarity, which does not depend on what other labels there are.
            None unless the labels were calibrated with background.
        unknown: whether that is below its threshold, so that the sound is none of the labels; None where it has none.
    """

    file: str
    labels: tuple[Score, ...]
    unsure: bool
    coverage: Coverage
    warnings: tuple[str, ...]
    provenance: Provenance
    timing: Timing | None
    fit: float | None = None
    unknown: bool | None = None

    @property
    def top(self) -> Score:
        """The best label."""
        return self.labels[0]

    def to_dict(self, *, top_k: int | None = None) -> dict[str, Any]:
        """Return the record of the JSON formats: plain values alone.

        Args:
            top_k: how many labels it holds; None holds all.
        """
        return {
            "file": self.file,
            "labels": [dict(vars(score)) for score in self.labels[:top_k]],
            "unsure": self.unsure,
            "heard": self.coverage.to_dict(),
            "warnings": list(self.warnings),
            **self.provenance.to_dict(),
            "ms": dict(vars(self.timing)) if self.timing else None,
            **({} if self.fit is None else {"fit": self.fit, "unknown": self.unknown}),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Result":
        """Return the result that a record of the JSON formats holds.

        Raises:
            KeyError, TypeError: it is not such a record.
        """
        heard, ms = record["heard"], record["ms"]
        return cls(
            file=record["file"],
            labels=tuple((DecidedScore if "threshold" in one else Score)(**one) for one in record["labels"]),
            unsure=record["unsure"],
            coverage=Coverage(heard["start"], heard["end"], heard["of"]),
            warnings=tuple(record["warnings"]),
            provenance=Provenance(
                **{name: record[name] for name in ("model", "weights", "variant", "provider")},
                space=record.get("space", ""),
                frontend=record.get("frontend", "numpy"),
                tower=record.get("tower", "whole"),
            ),
            timing=None if ms is None else Timing(**ms),
            fit=record.get("fit"),
            unknown=record.get("unknown"),
        )

    def __repr__(self) -> str:
        """Show the file and its best labels, as a person would read them."""
        best = ", ".join(f"{score.name!r} {score.probability:.1%}" for score in self.labels[:3])
        more = f", and {len(self.labels) - 3} more" if len(self.labels) > 3 else ""  # noqa: PLR2004 - as shown
        doubts = f"{', unsure' if self.unsure else ''}{', unknown' if self.unknown else ''}"
        return f"<Result {self.file!r}: {best}{more}{doubts}>"
