"""The work behind the routes, without HTTP: scores, embeddings and label sets, queued together."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from clapedge.audio import AudioSource
from clapedge.errors import UsageError
from clapedge.labels import EmbeddedLabels, LabelSet
from clapedge.labels.lint import Advice, check, check_with
from clapedge.model.cpu import usable_workers
from clapedge.pipeline import ClipBatch, EmbedStream, RecordingOptions
from clapedge.scoring.decision import Decision
from clapedge.scoring.result import Provenance, RecordingEmbeddings, Result
from clapedge.scoring.similarity import Scorer
from clapedge.serve.errors import GoneError
from clapedge.serve.label_store import LabelStore, check_limits, check_prompts
from clapedge.serve.metrics import Metrics
from clapedge.serve.models import Model, ModelInfo, Models
from clapedge.serve.pool import Pool
from clapedge.serve.settings import Settings

if TYPE_CHECKING:
    from concurrent.futures import Future

    from typing_extensions import Unpack

    from clapedge.arrays import Float32Array


@dataclass(frozen=True)
class LabelSetName:
    """The name of a label set that the service or the bundle holds."""

    name: str


T = TypeVar("T")
Labels: TypeAlias = "LabelSetName | LabelSet"


@dataclass(frozen=True)
class Submission(Generic[T]):
    """Work in the queue or in progress.

    Attributes:
        future: its result.
        stop: ends it early when set.
    """

    future: "Future[T]"
    stop: threading.Event

    def cancel(self) -> None:
        """Take it out of the queue, or end it after the clips in progress."""
        self.stop.set()
        self.future.cancel()


class Service:
    """The work behind every route. Thread-safe.

    Attributes:
        draining: whether it is about to end: not ready, though it still answers.
        receiving: uploads that are being read or kept; only the event loop changes it.
        ended: whether no work is left, so that streams may be cut.
        halted: whether the work in progress has to end at once.
    """

    def __init__(self, settings: Settings) -> None:
        """Read the label sets; `BundleWatcher` loads the model.

        Raises:
            LabelError: a label file is not understood.
        """
        self.settings = settings
        self.metrics = Metrics()
        self.models = Models()
        self.label_store = LabelStore(settings)
        self.draining = self.ended = self.halted = False
        self.receiving = 0
        self.pool = Pool(workers=usable_workers(settings.threads), queue=settings.queue, metrics=self.metrics)

    def close(self) -> None:
        """Finish the accepted work, then release everything."""
        self.pool.close()
        self.models.swap(None)

    @property
    def ready(self) -> bool:
        """Whether requests are served."""
        return self.models.ready and not self.draining

    def model_info(self) -> ModelInfo:
        """Return what the current model is.

        Raises:
            NotReadyError: there is none.
        """
        with self.models.using() as model:
            return model.info

    def embedded_sets(self) -> Mapping[str, EmbeddedLabels]:
        """Return the named label sets that are kept with their embeddings: that of `--labels`, and the bundle's own."""
        with self.models.using() as model:
            store = self.label_store
            own = {store.default: store.embedded} if store.default and store.embedded else {}
            return {**own, **model.stored}

    def label_sets(self) -> Mapping[str, LabelSet]:
        """Return the named label sets that the model can use: that of `--labels` first, the bundle's own last."""
        with self.models.using() as model:
            stored = {name: embedded.label_set for name, embedded in model.stored.items()}
            store = self.label_store
            own = {store.default: store.embedded.label_set} if store.default and store.embedded else {}
            return {**own, **(store.sets() if model.reads_words else {}), **stored}

    def label_set(self, name: str) -> LabelSet:
        """Return a named label set.

        Raises:
            UnknownError: there is no set of that name.
        """
        with self.models.using() as model:
            return model.stored[name].label_set if name in model.stored else self.label_store.get(name)

    def submit_check(self, label_set: LabelSet) -> Submission[tuple[Advice, ...]]:
        """Queue a label set to be checked, with its embeddings if the model has a text tower."""
        check_limits(label_set, self.settings)

        def work(job: Job) -> tuple[Advice, ...]:
            return check_with(job.engine, label_set) if job.model.reads_words else check(label_set)

        return self.submit(work)

    def submit_score(
        self,
        source: AudioSource,
        labels: Labels,
        *,
        decision: Decision | None = None,
        **options: "Unpack[RecordingOptions]",
    ) -> Submission[Result]:
        """Queue a recording to be scored, see `Engine.score`.

        Raises:
            BusyError: the queue is full.
        """

        def work(job: Job) -> Result:
            scorer = job.scorer(labels)
            result = job.engine.result(job.embed(source, **options), scorer, decision)
            if result.timing:
                self.metrics.observe_stages(result.timing)
            return result

        return self.submit(work)

    def submit_audio(
        self, source: AudioSource, **options: "Unpack[RecordingOptions]"
    ) -> Submission[tuple[RecordingEmbeddings, Provenance]]:
        """Queue a recording to be embedded."""

        def work(job: Job) -> tuple[RecordingEmbeddings, Provenance]:
            recording = job.embed(source, **options)
            return recording, job.engine.made_with(recording.strips, recording.frontend)

        return self.submit(work)

    def submit_text(self, prompts: Sequence[str]) -> "Submission[tuple[Float32Array, Provenance]]":
        """Queue prompts to be embedded as they are."""
        check_prompts(prompts, self.settings)
        return self.submit(lambda job: (job.engine.embed_text(prompts), job.engine.provenance))

    def submit(self, work: "Callable[[Job], T]") -> Submission[T]:
        """Queue work for the model that is current when its turn comes.

        Raises:
            BusyError: the queue is full.
            NotReadyError: the service is shutting down.
        """
        stop = threading.Event()

        def task() -> T:
            with self.models.using() as model:
                job = Job(self, model, stop)
                job.check()
                return work(job)

        return Submission(self.pool.submit(task), stop)

    def embed_labels(self, model: Model, labels: Labels) -> EmbeddedLabels:
        """Embed labels with a model, within the limits."""
        if isinstance(labels, LabelSetName):
            if labels.name in model.stored:
                return model.stored[labels.name]
            if self.label_store.embedded and labels.name == self.label_store.default:
                return model.engine.embed_labels(self.label_store.embedded)
            labels = self.label_store.get(labels.name)
        check_limits(labels, self.settings)
        self.metrics.labels.labels("hit" if model.engine.has_embedded(labels) else "miss").inc()
        return model.engine.embed_labels(labels)


class Job:
    """One request in a worker.

    Attributes:
        model: the model that is used to the end of the request.
        engine: the model's engine.
    """

    def __init__(self, service: Service, model: Model, stop: threading.Event) -> None:
        """Begin; the work ends early when the service halts, or when `stop` is set."""
        self.model, self.engine = model, model.engine
        self._service, self._stop = service, stop

    def check(self) -> None:
        """Raise `GoneError` if nobody waits for the result any more."""
        if self._service.halted or self._stop.is_set():
            raise GoneError

    def scorer(self, labels: Labels) -> Scorer:
        """Return a scorer for labels, see `Service.embed_labels`."""
        return self.engine.scorer(self._service.embed_labels(self.model, labels))

    def stream(self, source: AudioSource, **options: "Unpack[RecordingOptions]") -> EmbedStream:
        """Return the stream of a recording, to be iterated by `batches`."""
        return self.engine.embed_stream(source, max_seconds=self._service.settings.max_seconds, **options)

    def batches(self, stream: EmbedStream) -> Iterator[ClipBatch]:
        """Iterate a stream while the client waits, on as many cores as other requests leave.

        Raises:
            GoneError: the client left.
            UsageError: there are more clips than are allowed.
        """
        clips, most = 0, self._service.settings.max_clips
        stream.tower = self.model.tower(alone=self._service.pool.alone)
        for batch in stream:
            self.check()
            clips += len(batch.embeddings)
            if clips > most:
                raise UsageError(f"there are more than {most} clips; ask for a longer hop or a shorter duration")
            if not self.engine.provider_config.on_gpu:  # whose tower counts its runs, which requests share
                self._service.metrics.batches.observe(len(batch.embeddings))
            yield batch
            stream.tower = self.model.tower(alone=self._service.pool.alone)

    def embed(self, source: AudioSource, **options: "Unpack[RecordingOptions]") -> RecordingEmbeddings:
        """Embed a whole recording."""
        stream = self.stream(source, **options)
        return stream.join(list(self.batches(stream)))
