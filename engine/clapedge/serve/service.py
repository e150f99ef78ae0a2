"""What the service does, without HTTP: scores, timelines, embeddings and label sets, each in its turn."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from clapedge.audio import AudioSource
from clapedge.errors import UsageError
from clapedge.labels import EmbeddedLabels, LabelSet
from clapedge.labels.lint import Advice, check, check_with
from clapedge.model.cpu import usable_workers
from clapedge.pipeline import ClipBatch, EmbedStream, RecordingOptions
from clapedge.scoring.decision import Decision
from clapedge.scoring.result import RecordingEmbeddings, Result
from clapedge.serve.errors import GoneError
from clapedge.serve.label_store import LabelStore, check_limits, check_prompts
from clapedge.serve.metrics import Metrics
from clapedge.serve.models import Facts, Model, Models
from clapedge.serve.pool import Pool
from clapedge.serve.settings import Settings

if TYPE_CHECKING:
    from concurrent.futures import Future

    from typing_extensions import Unpack

    from clapedge.arrays import Float32Array


@dataclass(frozen=True)
class Named:
    """A label set by its name: one that the service knows, or one that the bundle holds."""

    name: str


T = TypeVar("T")
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

        def work(job: Job) -> tuple[Advice, ...]:
            return check_with(job.engine, label_set) if job.model.reads_words else check(label_set)

        return self.submit(work, None)

    def submit_score(
        self,
        source: AudioSource,
        labels: Labels,
        *,
        decision: Decision | None = None,
        stop: threading.Event | None = None,
        **options: "Unpack[RecordingOptions]",
    ) -> "Future[Result]":
        """Queue a recording to be scored.

        Args:
            source: the recording.
            labels: what it is scored against.
            decision: see `Engine.score`.
            stop: ends the work when it is set.
            **options: see `Engine.score`.

        Raises:
            BusyError: the queue is full.
        """

        def work(job: Job) -> Result:
            scorer = job.engine.scorer(self.embed_labels(job.model, labels))
            result = job.engine.result(job.embed(source, **options), scorer, decision)
            if result.timing:
                self.metrics.observe_stages(result.timing)
            return result

        return self.submit(work, stop)

    def submit_audio(
        self, source: AudioSource, *, stop: threading.Event | None = None, **options: "Unpack[RecordingOptions]"
    ) -> "Future[tuple[RecordingEmbeddings, Facts]]":
        """Queue a recording to be embedded."""
        return self.submit(lambda job: (job.embed(source, **options), job.model.facts), stop)

    def submit_text(self, prompts: Sequence[str]) -> "Future[tuple[Float32Array, Facts]]":
        """Queue prompts to be embedded as they are."""
        check_prompts(prompts, self.settings)
        return self.submit(lambda job: (job.engine.embed_text(prompts), job.model.facts), None)

    def submit(self, work: "Callable[[Job], T]", stop: threading.Event | None) -> "Future[T]":
        """Queue work on the model that answers when its turn comes; it ends when `stop` is set."""

        def task() -> T:
            with self.models.using() as model:
                job = Job(self, model, stop)
                job.check()
                return work(job)

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


class Job:
    """One request while it is worked on.

    Attributes:
        model: the model that answers it.
        engine: the model's engine.
    """

    def __init__(self, service: Service, model: Model, stop: threading.Event | None) -> None:
        """Begin; the work ends early when the service halts, or when `stop` is set."""
        self.model, self.engine = model, model.engine
        self._service, self._stop = service, stop

    def check(self) -> None:
        """Raise `GoneError` if nobody waits any longer."""
        if self._service.halted or (self._stop and self._stop.is_set()):
            raise GoneError

    def stream(self, source: AudioSource, **options: "Unpack[RecordingOptions]") -> EmbedStream:
        """Return the stream of a recording, within the limits of the service; iterate it through `batches`."""
        return self.engine.embed_stream(source, max_seconds=self._service.settings.max_seconds, **options)

    def batches(self, stream: EmbedStream) -> Iterator[ClipBatch]:
        """Iterate a stream while somebody waits, on as many cores as the other requests leave.

        Raises:
            GoneError: nobody waits any longer.
            UsageError: there are more clips than are allowed.
        """
        clips, most = 0, self._service.settings.max_clips
        stream.tower = self.model.tower(alone=self._service.pool.alone)
        for batch in stream:
            self.check()
            clips += len(batch.embeddings)
            if clips > most:
                raise UsageError(f"there are more than {most} clips; ask for a longer hop or a shorter duration")
            self._service.metrics.batches.observe(len(batch.embeddings))
            yield batch
            stream.tower = self.model.tower(alone=self._service.pool.alone)

    def embed(self, source: AudioSource, **options: "Unpack[RecordingOptions]") -> RecordingEmbeddings:
        """Embed a whole recording."""
        stream = self.stream(source, **options)
        return stream.join(list(self.batches(stream)))
