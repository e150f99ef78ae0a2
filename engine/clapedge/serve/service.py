"""What the service does, without HTTP: scores, timelines, embeddings and label sets, each in its turn."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from clapedge.arrays import BoolArray, Float32Array
from clapedge.audio import AudioSource
from clapedge.errors import UsageError
from clapedge.events import timeline as timelines
from clapedge.events.rules import EventRule
from clapedge.events.timeline import Event, Timeline
from clapedge.labels import EmbeddedLabels, LabelSet
from clapedge.labels.lint import Advice, check, check_with
from clapedge.model.cpu import usable_workers
from clapedge.pipeline import Embedder, Hearing, Told
from clapedge.scoring.decision import Decision
from clapedge.scoring.result import RecordingEmbeddings, Result
from clapedge.serve.errors import GoneError
from clapedge.serve.events import Settling
from clapedge.serve.label_store import LabelStore, check_limits, check_prompts
from clapedge.serve.metrics import Metrics
from clapedge.serve.models import Facts, Model, Models
from clapedge.serve.pool import Pool
from clapedge.serve.settings import Settings

if TYPE_CHECKING:
    from concurrent.futures import Future

    from typing_extensions import Unpack


@dataclass(frozen=True)
class Named:
    """A label set by its name: one that the service knows, or one that the bundle holds."""

    name: str


Labels: TypeAlias = "Named | LabelSet | EmbeddedLabels | Sequence[str]"


class Service:
    """The work behind every route. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        """Read the label sets; `watch.Watcher` brings the model.

        Raises:
            LabelError: a label file is not understood.
        """
        self.settings = settings
        self.metrics = Metrics()
        self.models = Models()
        self.label_store = LabelStore(settings)
        self._halted = threading.Event()
        self.draining = False
        """Whether it is about to end: not ready for more, though it still answers."""
        self.receiving = 0
        """How many uploads are being read or kept; the event loop's alone."""
        self.ended = False
        """Whether nothing is in hand any more, so that streams may be cut."""
        self.pool = Pool(workers=usable_workers(settings.threads), queue=settings.queue, metrics=self.metrics)

    @property
    def halted(self) -> bool:
        """Whether there is no time left for the work in hand."""
        return self._halted.is_set()

    def halt(self) -> None:
        """End the work in hand: it took longer than there was time to end."""
        self._halted.set()

    def close(self) -> None:
        """Finish what was accepted, then release everything."""
        self.pool.close()
        self.models.swap(None)

    @property
    def ready(self) -> bool:
        """Whether requests are served."""
        return self.models.ready and not self.draining

    def facts(self) -> Facts:
        """Return what answers now."""
        with self.models.using() as model:
            return model.facts

    def presets(self) -> Mapping[str, LabelSet]:
        """Return the named label sets that the model can use: those of `--labels` first, the bundle's own last."""
        with self.models.using() as model:
            stored = {name: embedded.label_set for name, embedded in model.stored.items()}
            return {**(self.label_store.sets() if model.reads_words else {}), **stored}

    def label_set(self, name: str) -> LabelSet:
        """Return a named label set.

        Raises:
            UnknownError: there is none of that name.
        """
        with self.models.using() as model:
            return model.stored[name].label_set if name in model.stored else self.label_store.get(name)

    def check_labels(self, label_set: LabelSet) -> tuple[Advice, ...]:
        """Return advice on a label set; waits for its turn."""
        return self.submit_check(label_set).result()

    def submit_check(self, label_set: LabelSet) -> "Future[tuple[Advice, ...]]":
        """Queue a label set to be checked, with the model's own embeddings where it reads words."""
        check_limits(label_set, self.settings)
        return self._submit(
            lambda model, _: check_with(model.engine, label_set) if model.reads_words else check(label_set), None
        )

    def score(
        self,
        source: AudioSource,
        labels: Labels,
        *,
        decision: Decision | None = None,
        stop: threading.Event | None = None,
        **hearing: "Unpack[Hearing]",
    ) -> Result:
        """Score a recording, see `Engine.score`; waits for its turn."""
        return self.submit_score(source, labels, decision=decision, stop=stop, **hearing).result()

    def submit_score(
        self,
        source: AudioSource,
        labels: Labels,
        *,
        decision: Decision | None = None,
        stop: threading.Event | None = None,
        **hearing: "Unpack[Hearing]",
    ) -> "Future[Result]":
        """Queue a recording to be scored.

        Args:
            source: the recording.
            labels: what it is scored against.
            decision: see `Engine.score`.
            stop: ends the work when it is set.
            **hearing: see `Hearing`.

        Raises:
            BusyError: the queue is full.
        """

        def work(model: Model, steps: "_Steps") -> Result:
            embedded = self.embed_labels(model, labels)
            limit = self.settings.max_seconds
            result = model.engine.score(
                source, embedded, decision=decision, told=steps.told, tower=steps, longest=limit, **hearing
            )
            if result.ms:
                self._observe(decode=result.ms.decode, frontend=result.ms.frontend, tower=result.ms.tower)
            return result

        return self._submit(work, stop)

    def timeline(
        self,
        source: AudioSource,
        labels: Labels,
        *,
        window: float = timelines.WINDOW_SECONDS,
        hop: float = timelines.HOP_SECONDS,
        start: float = 0.0,
        duration: float | None = None,
        told: Told | None = None,
        stop: threading.Event | None = None,
    ) -> Timeline:
        """Score a recording over time, see `timeline.listen`; waits for its turn."""
        span: dict[str, Any] = {"window": window, "hop": hop, "start": start, "duration": duration}
        return self.submit_timeline(source, labels, told=told, stop=stop, **span).result()

    def submit_timeline(
        self,
        source: AudioSource,
        labels: Labels,
        *,
        told: Told | None = None,
        stop: threading.Event | None = None,
        **span: Any,  # noqa: ANN401 - those of `timeline`
    ) -> "Future[Timeline]":
        """Queue a recording to be scored over time."""

        def work(model: Model, steps: "_Steps") -> Timeline:
            embedded = self.embed_labels(model, labels)
            limit, told_too = self.settings.max_seconds, steps.also(told)
            return timelines.listen(model.engine, source, embedded, told=told_too, tower=steps, longest=limit, **span)

        return self._submit(work, stop)

    def submit_events(
        self,
        source: AudioSource,
        labels: Labels,
        *,
        rule: EventRule,
        tell: Callable[[Timeline, Event], None],
        told: Told | None = None,
        stop: threading.Event | None = None,
        **span: Any,  # noqa: ANN401 - those of `timeline`
    ) -> "Future[tuple[str, ...]]":
        """Queue a recording whose events are told one by one while it is heard; it comes to what was wrong with it."""

        def work(model: Model, steps: "_Steps") -> tuple[str, ...]:
            embedded = self.embed_labels(model, labels)
            place = {name: span[name] for name in ("window", "hop", "start")}
            settling = Settling(model.engine, source, embedded, rule=rule, tower=steps, tell=tell, **place)
            limit, after = self.settings.max_seconds, settling.after(steps.also(told))
            found = timelines.listen(model.engine, source, embedded, told=after, tower=settling, longest=limit, **span)
            settling.finish(found)
            return found.warnings

        return self._submit(work, stop)

    def submit_audio(
        self, source: AudioSource, *, stop: threading.Event | None = None, **hearing: "Unpack[Hearing]"
    ) -> "Future[tuple[RecordingEmbeddings, Facts]]":
        """Queue a recording to be embedded."""

        def work(model: Model, steps: "_Steps") -> tuple[RecordingEmbeddings, Facts]:
            limit = self.settings.max_seconds
            listened = model.engine.listen(source, told=steps.told, tower=steps, longest=limit, **hearing)
            return listened, model.facts

        return self._submit(work, stop)

    def submit_text(self, prompts: Sequence[str]) -> "Future[tuple[Float32Array, Facts]]":
        """Queue prompts to be embedded as they are."""
        check_prompts(prompts, self.settings)
        return self._submit(lambda model, _: (model.engine.embed_text(prompts), model.facts), None)

    def _submit(self, work: "Callable[[Model, _Steps], Any]", stop: threading.Event | None) -> "Future[Any]":
        """Queue work on the model that answers when its turn comes."""

        def task() -> Any:  # noqa: ANN401 - whatever the work gives
            with self.models.using() as model:
                ends = (self._halted, stop) if stop else (self._halted,)
                steps = _Steps(model.tower(alone=lambda: self.pool.alone), ends, self.settings.max_clips)
                steps.check()
                return work(model, steps)

        return self.pool.submit(task)

    def embed_labels(self, model: Model, labels: Labels) -> EmbeddedLabels:
        """Embed labels with a model, within the limits."""
        if isinstance(labels, Named):
            if labels.name in model.stored:
                return model.stored[labels.name]
            labels = self.label_store.get(labels.name)
        if isinstance(labels, EmbeddedLabels):
            return model.engine.embed_labels(labels)
        label_set = check_limits(labels if isinstance(labels, LabelSet) else LabelSet.of(labels), self.settings)
        self.metrics.labels.labels("hit" if model.engine.has_embedded(label_set) else "miss").inc()
        return model.engine.embed_labels(label_set)

    def _observe(self, **milliseconds: float) -> None:
        """Count what stages took."""
        for stage, value in milliseconds.items():
            self.metrics.stages.labels(stage).observe(value / 1e3)


class _Steps:
    """The tower as one request sees it: it ends when nobody waits any longer, and after so many clips."""

    def __init__(self, tower: Embedder, ends: Sequence[threading.Event], most: int) -> None:
        """Stand in front of a tower, until one of the events is set or so many clips were heard."""
        self._tower, self._ends, self._most = tower, ends, most
        self._clips = 0

    def check(self) -> None:
        """Raise `GoneError` if nobody waits."""
        if any(end.is_set() for end in self._ends):
            raise GoneError

    def told(self, *_: float) -> None:
        """Be told how far a recording was heard."""
        self.check()

    def also(self, told: Told | None) -> Told:
        """Return what checks and then tells another one."""

        def both(heard: float, until: float) -> None:
            self.check()
            if told:
                told(heard, until)

        return both

    def embed(self, features: Float32Array, is_longer: BoolArray) -> Float32Array:
        """Embed clips, see `AudioTower.embed`."""
        self.check()
        self._clips += len(features)
        if self._clips > self._most:
            raise UsageError(f"more than {self._most} clips would be heard; ask for a longer hop or a shorter duration")
        return self._tower.embed(features, is_longer)
