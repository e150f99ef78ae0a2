"""What requests carry and answers hold, for the checks and for the OpenAPI document."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from clapedge.labels import DEFAULT_TEMPLATE, Label, LabelSet, fill

Name = Annotated[str, StringConstraints(min_length=1)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class Asked(BaseModel):
    """Base of what requests carry: an unknown field is an error, not a typing slip that goes unheard."""

    model_config = ConfigDict(extra="forbid")


class LabelChoice(Asked):
    """Which labels: words, or a set by its name; without either, the set that the service was started with."""

    labels: list[str] = Field(
        default=[],
        description="Words; repeats, and splits at commas.",
        examples=[["dog barking", "rain", "雨声"]],
    )
    label_set: str | None = Field(default=None, description="Name of a label set, see `/v1/labels`.", examples=["home"])
    template: str | None = Field(
        default=None, description="Prompt for `labels`, with {} where the word goes.", examples=[DEFAULT_TEMPLATE]
    )


class Span(Asked):
    """Which part of a recording."""

    start: Seconds = Field(default=0.0, description="Where to begin, in seconds.")
    duration: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = Field(
        default=None, description="Seconds to hear at most."
    )


class HearingChoice(Span):
    """How a recording is heard; the options and defaults are those of `clapedge score`."""

    channel: Annotated[int, Field(ge=0, le=1023)] | None = Field(
        default=None, description="The channel to hear, from 0 on; their mean unless given."
    )
    trim_silence: Annotated[float, Field(le=0, ge=-1000)] | None = Field(
        default=None, description="Leave out what begins and ends below this level in dBFS; asks for a duration."
    )
    resample: Literal["VHQ", "HQ", "MQ", "LQ", "QQ"] = Field(default="VHQ", description="Quality of resampling.")
    window: Literal["first", "slide", "fuse"] = Field(
        default="first",
        description="What is heard of a long recording: its first 10 s, all in sliding clips, or all in one input.",
    )
    hop: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] = Field(
        default=10.0, description="Seconds from one sliding clip to the next."
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = Field(
        default=None, description="Draw the crops of `fuse` at random."
    )
    pad: Literal["repeatpad", "repeat", "zero"] = Field(
        default="repeatpad", description="How a short recording fills 10 s."
    )


class ScoreChoice(LabelChoice, HearingChoice):
    """Fields of `/v1/score`."""

    multi: bool = Field(default=False, description="Decide labels apart: each is present from its threshold on.")
    threshold: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        default=None, description="With `multi`: similarity from which a label without a threshold is present."
    )
    unsure_margin: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="How close a decision is unsure, see `clapedge score --help`."
    )
    top_k: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="Report only the best so many labels."
    )


class TimelineChoice(LabelChoice, Span):
    """Fields of `/v1/timeline`; the options and defaults are those of `clapedge timeline`."""

    window: Annotated[float, Field(gt=0, le=10)] | None = Field(
        default=None, description="Seconds that each window hears; where not given, twice the hop, from 1 to 10."
    )
    hop: Annotated[float, Field(gt=0, le=10)] = Field(default=1.0, description="Seconds from window to window.")
    on: Annotated[float, Field(ge=-1, le=1)] | None = Field(default=None, description="Score that begins an event.")
    off: Annotated[float, Field(ge=-1, le=1)] | None = Field(default=None, description="Score below which it ends.")
    min_duration: Seconds = Field(default=0.0, description="Leave out shorter events.")
    merge_gap: Seconds = Field(default=0.0, description="Join events of a label that are this close.")
    multi: bool = Field(default=False, description="Decide labels apart, by similarity.")
    progress: bool = Field(
        default=False,
        description="Also send lines with `heard` and `until`, in seconds, while it is heard, and one with `warnings`.",
    )


class EventRecord(BaseModel):
    """A label that is heard for a while: a line of `/v1/timeline`."""

    file: str
    label: str
    start: float = Field(description="Where it begins, in seconds.")
    end: float
    peak: float = Field(description="The middle of the window in which it is clearest.")
    probability: float = Field(description="Its probability there.")
    similarity: float
    model: str
    weights: str
    variant: str
    provider: str


class LabelRecord(Asked):
    """One label."""

    name: str = Field(description="What is shown, in any language.", examples=["烟雾报警 smoke alarm"])
    prompts: list[str] = Field(
        default=[],
        description="What the model reads, in English; without any, the name goes into the template.",
        examples=[["a smoke alarm beeping loudly"]],
    )
    threshold: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        default=None, description="Similarity from which it is present, with `multi`."
    )
    hidden: bool = Field(default=False, description="It takes its share of probability and is not reported.")

    @classmethod
    def of(cls, label: Label) -> "LabelRecord":
        """Describe a label."""
        return cls(name=label.name, prompts=list(label.prompts), threshold=label.threshold, hidden=label.hidden)


class LabelSetRecord(Asked):
    """A label set, as a label file holds it."""

    template: str = Field(default=DEFAULT_TEMPLATE, description="Prompt for labels without prompts.")
    labels: list[LabelRecord] = Field(
        examples=[[{"name": "dog barking"}, {"name": "background", "prompts": ["quiet room tone"], "hidden": True}]]
    )

    def label_set(self) -> LabelSet:
        """Make the label set.

        Raises:
            LabelError: it cannot be scored against.
        """
        return LabelSet(
            tuple(
                Label(
                    label.name,
                    tuple(label.prompts) or (fill(self.template, label.name),),
                    label.threshold,
                    label.hidden,
                )
                for label in self.labels
            )
        )

    @classmethod
    def of(cls, label_set: LabelSet) -> "LabelSetRecord":
        """Describe a label set."""
        return cls(labels=[LabelRecord.of(label) for label in label_set.labels])


class LabelSetNames(BaseModel):
    """The label sets that a request may name."""

    default: str | None = Field(description="The set for requests that name no labels.")
    label_sets: dict[str, LabelSetRecord]


class AdviceRecord(BaseModel):
    """One thing that a label set could do better."""

    rule: str = Field(description="Which rule found it.", examples=["vague"])
    labels: list[str] = Field(description="The labels concerned; none if it is the whole set.")
    found: str
    reason: str
    better: str


class AdviceList(BaseModel):
    """Advice on a label set; none on a good one."""

    advice: list[AdviceRecord]


class ScoreRecord(BaseModel):
    """How well a label fits a recording."""

    name: str
    probability: float = Field(description="Softmax over the whole label set, hidden labels included.")
    similarity: float = Field(description="Cosine of the two embeddings.")
    threshold: float | None = Field(default=None, description="With `multi`: similarity from which it is present.")
    present: bool | None = Field(default=None, description="With `multi`: whether it is.")


class HeardRecord(BaseModel):
    """The span that was heard, and the length of the recording, in seconds."""

    start: float
    end: float
    of: float


class TimingRecord(BaseModel):
    """Milliseconds that the stages took, the wait for a worker not included."""

    decode: float
    frontend: float
    tower: float
    total: float


class ResultRecord(BaseModel):
    """The scores of one recording: the record of `clapedge score --format jsonl`."""

    file: str = Field(description="The file name that the client gave.")
    labels: list[ScoreRecord] = Field(description="Best first.")
    unsure: bool = Field(description="Whether the decision is too close to be relied on.")
    heard: HeardRecord
    warnings: list[str] = Field(description="What was wrong with the recording and was mended, or was not heard.")
    model: str
    weights: str
    variant: str
    provider: str
    ms: TimingRecord


class AudioEmbedding(BaseModel):
    """The embedding of one recording."""

    file: str
    embedding: list[float] = Field(description="Of unit norm.")
    heard: HeardRecord
    warnings: list[str]
    model: str
    weights: str
    variant: str
    provider: str


class Prompts(Asked):
    """Prompts to be embedded as they are, without a template."""

    prompts: list[Name] = Field(min_length=1, examples=[["This is a sound of a dog barking."]])


class TextEmbeddings(BaseModel):
    """The embeddings of prompts, in their order."""

    embeddings: list[list[float]] = Field(description="Each of unit norm.")
    model: str
    weights: str


class ModelRecord(BaseModel):
    """A bundle that is served, or could be."""

    bundle: str = Field(description="Name of its directory.")
    serving: bool = Field(description="Whether it answers now.")
    fault: str | None = Field(default=None, description="Why it was refused.")
    model: str | None = None
    revision: str | None = None
    licence: str | None = None
    weights: str | None = None
    variant: str | None = None
    provider: str | None = None
    variants: list[str] = []
    label_sets: list[str] = Field(default=[], description="Label sets that it holds.")
    reads_words: bool | None = Field(default=None, description="Whether any words may be labels.")
    embedding_size: int | None = None


class ModelList(BaseModel):
    """What is served; the bundles beside it where the service was given a directory of bundles."""

    models: list[ModelRecord]


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"
    version: str


class Readiness(BaseModel):
    """Whether requests are served, and what stands against the newest bundle."""

    ready: bool
    bundle: str | None = None
    refused: str | None = Field(default=None, description="Why the newest bundle was refused; the one before serves.")


class ProblemRecord(BaseModel):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="What was found, and what to do about it.")
    error: str = Field(description="Class of the error, as in Python.", examples=["LabelError"])
    exit_code: int = Field(description="Status with which the command line would end.", examples=[2])
