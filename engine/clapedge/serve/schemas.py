"""Parameters of requests and records of responses, for validation and for the OpenAPI document."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from clapedge.audio import Resample
from clapedge.errors import LabelError
from clapedge.features.clips import Window
from clapedge.features.padding import Pad
from clapedge.labels import DEFAULT_TEMPLATE, EmbeddedLabels, Label, LabelSet, fill
from clapedge.terminal import counted

Text = Annotated[str, StringConstraints(min_length=1)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Similarity = Annotated[float, Field(ge=-1, le=1)]


class Strict(BaseModel):
    """Base of requests: an unknown field is an error, since it is probably a typing error."""

    model_config = ConfigDict(extra="forbid")


class LabelParameters(Strict):
    """Labels: words or the name of a set; by default, the set that the service was started with."""

    labels: list[str] = Field(
        default=[],
        description="Words; may be repeated, and is split at commas.",
        examples=[["dog barking", "rain", "雨声"]],
    )
    label_set: str | None = Field(default=None, description="Name of a label set, see `/v1/labels`.", examples=["home"])
    template: str | None = Field(
        default=None, description="Prompt for `labels`, with {} in place of the word.", examples=[DEFAULT_TEMPLATE]
    )


class SpanParameters(Strict):
    """Part of a recording."""

    start: Seconds = Field(default=0.0, description="Start in seconds.")
    duration: PositiveSeconds | None = Field(
        default=None, description="Maximum length in seconds; default: to the end."
    )


class RecordingParameters(SpanParameters):
    """How a recording is read and becomes clips, as in `clapedge score`: fields of `ReadOptions` and `ClipOptions`."""

    channel: Annotated[int, Field(ge=0, le=1023)] | None = Field(
        default=None, description="Channel, counted from 0; default: the mean of all."
    )
    trim_silence: Annotated[float, Field(le=0, ge=-1000)] | None = Field(
        default=None, description="Trim both ends below this level in dBFS; requires `duration`."
    )
    resample: Resample = Field(default="VHQ", description="Quality of resampling.")
    window: Window = Field(
        default="first",
        description="Clips of a long recording: its first 10 s, sliding clips over all of it, or one fused clip.",
    )
    hop: PositiveSeconds = Field(default=10.0, description="Seconds from one sliding clip to the next.")
    length: Annotated[float, Field(ge=0.1, le=10)] | None = Field(
        default=None, description="Seconds of each sliding clip; default: 10."
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = Field(
        default=None, description="Seed of random crops for `fuse`; default: the middle of each third."
    )
    pad: Pad = Field(default="repeatpad", description="How a short recording fills 10 s.")


class ScoreParameters(LabelParameters, RecordingParameters):
    """Parameters of `/v1/score`: fields of `Decision`, besides labels and recording."""

    multi: bool = Field(default=False, description="Multi-label: decide each label against its own threshold.")
    threshold: Similarity | None = Field(
        default=None, description="With `multi`: similarity from which a label without a threshold is present."
    )
    unsure_margin: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="Margin below which a decision is unsure, see `clapedge score --help`."
    )
    top_k: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="Return only this many labels, the best ones."
    )


class TimelineParameters(LabelParameters, SpanParameters):
    """Parameters of `/v1/timeline`, as in `clapedge timeline`: fields of `EventRule`, besides labels and windows."""

    window: Annotated[float, Field(gt=0, le=10)] | None = Field(
        default=None, description="Seconds of each window; default: twice the hop, from 1 to 10."
    )
    hop: Annotated[float, Field(gt=0, le=10)] = Field(default=1.0, description="Seconds from one window to the next.")
    on: Similarity | None = Field(default=None, description="Score from which an event begins.")
    off: Similarity | None = Field(default=None, description="Score below which it ends.")
    min_duration: Seconds = Field(default=0.0, description="Leave out shorter events.")
    merge_gap: Seconds = Field(default=0.0, description="Merge events of a label that are at most this far apart.")
    multi: bool = Field(default=False, description="Multi-label: decide each label by its own similarity.")
    progress: bool = Field(
        default=False,
        description="Also send lines with `heard` and `until`, in seconds, during the work, and one with `warnings`.",
    )


class ProvenanceRecord(BaseModel):
    """Base of results: what made them; `frontend` is `device` where a GPU made the log-mels, and else left out."""

    model_config = ConfigDict(extra="allow")

    model: str
    weights: str
    variant: str
    provider: str
    space: str = Field(description="Name of the embedding space: embeddings of equal names may be mixed.")


class EventRecord(ProvenanceRecord):
    """An event, a line of `/v1/timeline`: a label is present for a while."""

    file: str
    label: str
    start: float = Field(description="Start in seconds.")
    end: float
    peak: float = Field(description="Middle of the window with the highest similarity, in seconds.")
    probability: float = Field(description="Its probability there.")
    similarity: float


class LabelRecord(Strict):
    """One label."""

    name: str = Field(description="Displayed name, in any language.", examples=["smoke alarm"])
    prompts: list[str] = Field(
        default=[],
        description="English texts for the model; default: the name in the template.",
        examples=[["a smoke alarm beeping loudly"]],
    )
    threshold: Similarity | None = Field(default=None, description="Similarity from which it is present, with `multi`.")
    hidden: bool = Field(default=False, description="It takes its share of probability and is not returned.")
    examples: int = Field(
        default=0, ge=0, description="Number of clips that taught it. No request can hold them: 0 in what is put."
    )

    @classmethod
    def of(cls, label: Label) -> "LabelRecord":
        """Return the record of a label."""
        return cls(
            name=label.name,
            prompts=list(label.prompts),
            threshold=label.threshold,
            hidden=label.hidden,
            examples=label.examples,
        )

    def label(self, template: str) -> Label:
        """Return the label; one without prompts gets the template's.

        Raises:
            LabelError: clips taught it, which a record does not hold.
        """
        if self.examples:
            raise LabelError(
                f"label {self.name!r:.60} is taught by {counted(self.examples, 'clip')}, which no request holds; leave "
                "it out, or name its set in label_set"
            )
        prompts = tuple(self.prompts) or (fill(template, self.name),)
        return Label(self.name, prompts, self.threshold, self.hidden)


class LabelSetRecord(Strict):
    """A label set, as a label file holds it."""

    template: str = Field(default=DEFAULT_TEMPLATE, description="Prompt for labels without prompts.")
    calibrated: bool = Field(
        default=False,
        description='Whether it decides "none of these", by thresholds from background. False in what is put.',
    )
    labels: list[LabelRecord] = Field(
        examples=[[{"name": "dog barking"}, {"name": "background", "prompts": ["quiet room tone"], "hidden": True}]]
    )

    def label_set(self) -> LabelSet:
        """Return the label set.

        Raises:
            LabelError: it is invalid, or holds more than words.
        """
        if self.calibrated:
            raise LabelError(
                "the label set is calibrated with background, which no request holds; leave out calibrated to put its "
                "words alone, or name it in label_set"
            )
        return LabelSet(tuple(label.label(self.template) for label in self.labels))

    @classmethod
    def of(cls, label_set: LabelSet, embedded: EmbeddedLabels | None = None) -> "LabelSetRecord":
        """Return the record of a label set, which may be kept with its embeddings."""
        calibrated = embedded is not None and embedded.rejection is not None
        return cls(calibrated=calibrated, labels=[LabelRecord.of(label) for label in label_set.labels])


class LabelSetNames(BaseModel):
    """The label sets that a request may name."""

    default: str | None = Field(description="The set for requests that name no labels.")
    label_sets: dict[str, LabelSetRecord]


class AdviceRecord(BaseModel):
    """One possible improvement of a label set."""

    rule: str = Field(description="Name of the rule.", examples=["vague"])
    labels: list[str] = Field(description="The labels concerned; empty for the whole set.")
    found: str
    reason: str
    better: str


class AdviceList(BaseModel):
    """Advice on a label set; empty for a good one."""

    advice: list[AdviceRecord]


class ScoreRecord(BaseModel):
    """How well a label fits a recording."""

    name: str
    probability: float = Field(description="Softmax over the whole label set, including hidden labels.")
    similarity: float = Field(description="Cosine of the two embeddings.")
    threshold: float | None = Field(default=None, description="With `multi`: similarity from which it is present.")
    present: bool | None = Field(default=None, description="With `multi`: whether it is present.")


class CoverageRecord(BaseModel):
    """The part of the recording that decided, and the length of the recording, in seconds."""

    start: float
    end: float
    of: float


class TimingRecord(BaseModel):
    """Milliseconds of each stage, without the wait for a worker."""

    decode: float
    frontend: float
    tower: float
    total: float


class ResultRecord(ProvenanceRecord):
    """The scores of one recording: the record of `clapedge score --format jsonl`."""

    file: str = Field(description="Name of the file, as the client gave it.")
    labels: list[ScoreRecord] = Field(description="Best first.")
    unsure: bool = Field(description="Whether the decision is too close to rely on.")
    heard: CoverageRecord
    warnings: list[str] = Field(
        description="Faults of the recording that were corrected, and parts that were left out."
    )
    ms: TimingRecord


class CalibratedResultRecord(ResultRecord):
    """The same, of a label set that was calibrated with background."""

    fit: float = Field(description="How well the best label fits, whatever the others are.")
    unknown: bool | None = Field(description="Whether no label fits; null where the best one has no threshold.")


class AudioEmbedding(ProvenanceRecord):
    """The embedding of one recording."""

    file: str
    embedding: list[float] = Field(description="Of unit norm.")
    heard: CoverageRecord
    warnings: list[str]


class Prompts(Strict):
    """Prompts, embedded as they are, without a template."""

    prompts: list[Text] = Field(min_length=1, examples=[["This is a sound of a dog barking."]])


class TextEmbeddings(BaseModel):
    """The embeddings of prompts, in their order."""

    embeddings: list[list[float]] = Field(description="Each of unit norm.")
    model: str
    weights: str
    space: str = Field(description="Name of the space that they lie in: the first part of those of fitting clips.")


class ModelRecord(BaseModel):
    """A bundle."""

    bundle: str = Field(description="Name of its directory.")
    serving: bool = Field(description="Whether it is the current one.")
    fault: str | None = Field(default=None, description="Why it was refused.")
    model: str | None = None
    revision: str | None = None
    licence: str | None = None
    weights: str | None = None
    variant: str | None = None
    provider: str | None = None
    variants: list[str] = []
    label_sets: list[str] = Field(default=[], description="Names of its label sets.")
    reads_words: bool | None = Field(default=None, description="Whether labels may be any words.")
    embedding_size: int | None = None
    space: str | None = Field(default=None, description="Name of the embedding space of its clips.")


class ModelList(BaseModel):
    """The current bundle, and the others of the directory."""

    models: list[ModelRecord]


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"
    version: str


class Readiness(BaseModel):
    """Whether requests are served, and why the newest bundle is not used, if so."""

    ready: bool
    bundle: str | None = None
    refused: str | None = Field(
        default=None, description="Why the newest bundle was refused; the previous one is still served."
    )


class ProblemRecord(BaseModel):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="What was found, and what to do about it.")
    error: str = Field(description="Class of the error, as in Python.", examples=["LabelError"])
    exit_code: int = Field(description="Status with which the command line would end.", examples=[2])
