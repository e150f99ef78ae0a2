"""Routes that take recordings or prompts: `/v1/score`, `/v1/timeline`, `/v1/embed`."""

import asyncio
import threading
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TypeVar, cast

import numpy as np
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ValidationError
from starlette.responses import Response, StreamingResponse

from clapedge.audio import source_name
from clapedge.errors import LabelError, UsageError
from clapedge.events.rules import EventRule
from clapedge.events.stream import EventStream
from clapedge.events.timeline import default_window, window_options
from clapedge.labels import DEFAULT_TEMPLATE, LabelSet
from clapedge.output.columns import event_record
from clapedge.scoring.decision import THRESHOLD, Decision
from clapedge.serve import openapi as documents
from clapedge.serve.errors import GoneError
from clapedge.serve.json_lines import Lines, LinesResponse, given_up
from clapedge.serve.responses import JsonResponse
from clapedge.serve.schemas import (
    AudioEmbedding,
    HearingChoice,
    LabelChoice,
    Prompts,
    ResultRecord,
    ScoreChoice,
    TextEmbeddings,
    TimelineChoice,
)
from clapedge.serve.service import Job, Labels, Named, Service
from clapedge.serve.uploads import Upload, merged, read_label_file, received

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

router = APIRouter(prefix="/v1")

T = TypeVar("T")
Choice = TypeVar("Choice", bound=BaseModel)


@router.post("/score", response_model=ResultRecord, responses=documents.PROBLEMS, **documents.upload("ScoreForm"))
async def score(request: Request, query: Annotated[ScoreChoice, Query()]) -> Response:
    """Score a recording against labels, best first: the record of `clapedge score --format jsonl`."""
    service: Service = request.app.state.service
    service.pool.check_room()
    async with received(request) as upload:
        asked = choice(ScoreChoice, request, query, upload)
        stop = threading.Event()
        future = service.submit_score(
            _recording(upload),
            _labels(service, asked, upload),
            decision=_decision(asked),
            stop=stop,
            **_recording_options(asked),
        )
        result = await finished(request, future, stop)
        return JsonResponse(result.to_dict(top_k=asked.top_k))


@router.post("/timeline", response_class=StreamingResponse, responses=documents.EVENTS, **documents.upload("ScoreForm"))
async def timeline(request: Request, query: Annotated[TimelineChoice, Query()]) -> Response:
    """Find what is heard in a recording, from when to when: the lines of `clapedge timeline --format jsonl`.

    An event is sent as soon as nothing that is heard later can change it.
    """
    service: Service = request.app.state.service
    service.pool.check_room()
    async with AsyncExitStack() as stack:
        upload = await stack.enter_async_context(received(request))
        asked = choice(TimelineChoice, request, query, upload)
        recording, labels = _recording(upload), _labels(service, asked, upload)
        rule = EventRule(asked.on, asked.off, asked.min_duration, asked.merge_gap, asked.multi)
        window = default_window(asked.hop) if asked.window is None else asked.window
        options = window_options(window, asked.hop)
        options |= {"start": asked.start, "duration": asked.duration}
        lines, stop = Lines(), threading.Event()

        def work(job: Job) -> tuple[str, ...]:
            stream, name = job.stream(recording, **options), source_name(recording)
            events = EventStream(job.engine.scorer(service.embed_labels(job.model, labels)), rule, window=window)
            for batch in job.batches(stream):
                if asked.progress:
                    lines.write({"heard": batch.position, "until": batch.end})
                for event in events.push_ordered(batch):
                    lines.write(event_record(name, event, job.engine.provenance))
            for event in events.close_ordered(stream.coverage.end):
                lines.write(event_record(name, event, job.engine.provenance))
            return stream.warnings

        future = service.submit(work, stop)
        future.add_done_callback(lambda done: lines.end(_warnings(done) if asked.progress else ()))
        first = await first_line(request, lines, future, stop)
        return LinesResponse(first, lines, future, stop, stack.pop_all().aclose)


@router.post(
    "/embed/audio", response_model=AudioEmbedding, responses=documents.PROBLEMS, **documents.upload("RecordingForm")
)
async def embed_audio(request: Request, query: Annotated[HearingChoice, Query()]) -> Response:
    """Embed a recording: one unit vector, to be kept and scored later."""
    service: Service = request.app.state.service
    service.pool.check_room()
    async with received(request) as upload:
        asked = choice(HearingChoice, request, query, upload)
        recording, stop = _recording(upload), threading.Event()
        future = service.submit_audio(recording, stop=stop, **_recording_options(asked))
        embedded, facts = await finished(request, future, stop)
        about = {name: getattr(facts, name) for name in ("model", "weights", "variant", "provider")}
        notes = {"heard": embedded.coverage.to_dict(), "warnings": embedded.warnings}
        return JsonResponse({"file": recording.name, "embedding": embedded.embedding.tolist(), **notes, **about})


@router.post("/embed/text", response_model=TextEmbeddings, responses=documents.PROBLEMS)
async def embed_text(request: Request, prompts: Prompts) -> Response:
    """Embed prompts as they are, without a template."""
    service: Service = request.app.state.service
    rows, facts = await finished(request, service.submit_text(prompts.prompts), threading.Event())
    return JsonResponse({"embeddings": np.asarray(rows).tolist(), "model": facts.model, "weights": facts.weights})


def choice(kind: type[Choice], request: Request, query: Choice, upload: Upload) -> Choice:
    """Return what a request asks for, in its query and its form.

    Raises:
        UsageError: a field is not understood.
    """
    if not upload.fields:
        return query
    named = {key: request.query_params.getlist(key) for key in request.query_params}
    lists = {name for name, info in kind.model_fields.items() if info.annotation == list[str]}
    fields: Mapping[str, Any] = {
        name: values if name in lists else values[-1] for name, values in merged(named, upload.fields).items()
    }
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise UsageError(f"{'; '.join(faults)[:1000]}; see /openapi.json") from error


async def finished(request: Request, future: "Future[T]", stop: threading.Event) -> T:
    """Return what work comes to; a client that leaves ends it.

    Raises:
        GoneError: the client left.
    """
    done = asyncio.wrap_future(future)
    done.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # else asyncio reports it as lost
    await unless_left(request, done, future, stop)
    return done.result()


async def first_line(request: Request, lines: Lines, future: "Future[Any]", stop: threading.Event) -> bytes | None:
    """Return the first line of some work, or None if it ends without any; a client that leaves ends the work.

    Raises:
        GoneError: the client left.
    """
    line = asyncio.ensure_future(lines.next())
    await unless_left(request, line, future, stop)
    if line.result() is None:
        future.result()  # a failure before the first line is one of the whole request
    return line.result()


async def unless_left(
    request: Request, wanted: "asyncio.Future[Any]", future: "Future[Any]", stop: threading.Event
) -> None:
    """Wait for something that some work brings, unless the client leaves: that ends the work.

    Raises:
        GoneError: the client left.
    """
    left = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({wanted, left}, return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            raise GoneError
    finally:
        left.cancel()
        if not wanted.done():
            await given_up(future, stop)  # the worker reads the upload, which is closed when this returns


async def _left(request: Request) -> None:
    """Return when the client leaves."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _warnings(done: "Future[tuple[str, ...]]") -> tuple[str, ...]:
    """Return what was wrong with a recording that was heard to its end."""
    return () if done.cancelled() or done.exception() else done.result()


def _recording(upload: Upload) -> BinaryIO:
    """Return the recording of an upload.

    Raises:
        UsageError: there is none.
    """
    if upload.recording is None:
        raise UsageError("the form carries no recording; send it as the field file")
    return cast("BinaryIO", upload.recording)  # of a file object, what the engine asks for


def _labels(service: Service, asked: LabelChoice, upload: Upload) -> Labels:
    """Return the labels that a request asks for.

    Raises:
        LabelError: it names none, or several kinds of them.
    """
    given = [name for name in ("labels", "label_set") if getattr(asked, name)]
    given += ["label_file"] if upload.label_file else []
    if len(given) > 1:
        raise LabelError(f"both {given[0]} and {given[1]} are given; leave one of them out")
    if asked.template and given != ["labels"]:
        raise LabelError("template goes with labels; a label set carries its own prompts")
    if upload.label_file:
        return read_label_file(*upload.label_file)
    if asked.labels:
        return LabelSet.parse(asked.labels, template=asked.template or DEFAULT_TEMPLATE)
    name = asked.label_set or service.label_store.default
    if name is None:
        raise LabelError("the request names no labels; give labels=dog barking,rain or label_set=NAME")
    return Named(name)


def _decision(asked: ScoreChoice) -> Decision:
    """Return how a request has its result decided."""
    if asked.threshold is not None and not asked.multi:
        raise UsageError("threshold goes with multi; without it, labels share the probability")
    return Decision(asked.multi, asked.unsure_margin, THRESHOLD if asked.threshold is None else asked.threshold)


def _recording_options(asked: HearingChoice) -> Any:  # noqa: ANN401 - pydantic has checked the choices
    """Return which part of its recording a request wants, and how it becomes clips."""
    return {name: getattr(asked, name) for name in HearingChoice.model_fields}
