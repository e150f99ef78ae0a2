"""Routes that take recordings or prompts: `/v1/score`, `/v1/timeline`, `/v1/embed`."""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.responses import Response, StreamingResponse

from clapedge.audio import source_name
from clapedge.errors import LabelError, UsageError
from clapedge.events.rules import EventRule
from clapedge.events.stream import EventStream
from clapedge.events.timeline import default_window, window_options
from clapedge.labels import DEFAULT_TEMPLATE, LabelSet
from clapedge.model.space import words_of
from clapedge.output.columns import event_record
from clapedge.scoring.decision import THRESHOLD, Decision
from clapedge.serve import openapi
from clapedge.serve.disconnect import result_of
from clapedge.serve.json_lines import LinesResponse
from clapedge.serve.responses import JsonResponse
from clapedge.serve.schemas import (
    AudioEmbedding,
    CalibratedResultRecord,
    LabelParameters,
    Prompts,
    RecordingParameters,
    ResultRecord,
    ScoreParameters,
    TextEmbeddings,
    TimelineParameters,
)
from clapedge.serve.service import Job, Labels, LabelSetName, Service
from clapedge.serve.uploads import Upload, merge_fields, read_label_file, received

router = APIRouter(prefix="/v1")

Parameters = TypeVar("Parameters", bound=BaseModel)


@router.post(
    "/score",
    response_model=ResultRecord | CalibratedResultRecord,
    responses=openapi.PROBLEMS,
    **openapi.upload_body("ScoreForm"),
)
async def score(request: Request, query: Annotated[ScoreParameters, Query()]) -> Response:
    """Score a recording against labels, best first: the record of `clapedge score --format jsonl`."""
    service: Service = request.app.state.service
    service.pool.check_room()
    async with received(request) as upload:
        parameters = with_form(query, request, upload)
        labels = labels_of(service, parameters, upload)
        submission = service.submit_score(
            upload.recording, labels, decision=_decision(parameters), **_recording_options(parameters)
        )
        result = await result_of(request, submission)
        return JsonResponse(result.to_dict(top_k=parameters.top_k))


@router.post(
    "/timeline", response_class=StreamingResponse, responses=openapi.EVENTS, **openapi.upload_body("ScoreForm")
)
async def timeline(request: Request, query: Annotated[TimelineParameters, Query()]) -> Response:
    """Find the events in a recording: the lines of `clapedge timeline --format jsonl`.

    An event is sent as soon as it is final, and so are all events before it.
    """
    service: Service = request.app.state.service
    service.pool.check_room()
    async with AsyncExitStack() as stack:
        upload = await stack.enter_async_context(received(request))
        parameters = with_form(query, request, upload)
        recording, labels = upload.recording, labels_of(service, parameters, upload)
        rule = EventRule(**{name: getattr(parameters, name) for name in vars(EventRule())})
        window = default_window(parameters.hop) if parameters.window is None else parameters.window
        options = window_options(window, parameters.hop)
        options |= {"start": parameters.start, "duration": parameters.duration}

        def records(job: Job) -> Iterator[object]:
            stream, name = job.stream(recording, **options), source_name(recording)
            events = EventStream(job.scorer(labels), rule, window=window)
            for batch in job.batches(stream):
                if parameters.progress:
                    yield {"heard": batch.position, "until": batch.end}
                for event in events.push_ordered(batch):
                    yield event_record(name, event, job.engine.provenance)
            for event in events.close_ordered(stream.coverage.end):
                yield event_record(name, event, job.engine.provenance)
            if parameters.progress and stream.warnings:
                yield {"warnings": stream.warnings}

        response = LinesResponse(service, records)
        await response.begin(request, stack)
        return response


@router.post(
    "/embed/audio", response_model=AudioEmbedding, responses=openapi.PROBLEMS, **openapi.upload_body("RecordingForm")
)
async def embed_audio(request: Request, query: Annotated[RecordingParameters, Query()]) -> Response:
    """Embed a recording: one unit vector, to be kept and scored later."""
    service: Service = request.app.state.service
    service.pool.check_room()
    async with received(request) as upload:
        options = _recording_options(with_form(query, request, upload))
        submission = service.submit_audio(upload.recording, **options)
        recording, provenance = await result_of(request, submission)
        return JsonResponse(
            {
                "file": recording.file,
                "embedding": recording.embedding.tolist(),
                "heard": recording.coverage.to_dict(),
                "warnings": recording.warnings,
                **provenance.to_dict(),
            }
        )


@router.post("/embed/text", response_model=TextEmbeddings, responses=openapi.PROBLEMS)
async def embed_text(request: Request, prompts: Prompts) -> Response:
    """Embed prompts as they are, without a template."""
    service: Service = request.app.state.service
    rows, provenance = await result_of(request, service.submit_text(prompts.prompts))
    content = {"embeddings": np.asarray(rows).tolist(), "model": provenance.model, "weights": provenance.weights}
    return JsonResponse({**content, "space": words_of(provenance.space)})


def with_form(query: Parameters, request: Request, upload: Upload) -> Parameters:
    """Return the parameters of a request, those in its form included.

    Raises:
        RequestValidationError: a field is invalid.
        RequestError: a field is in the query and in the form.
    """
    if not upload.fields:
        return query
    in_query = {key: request.query_params.getlist(key) for key in request.query_params}
    lists = {name for name, info in type(query).model_fields.items() if info.annotation == list[str]}
    merged = merge_fields(in_query, upload.fields)
    fields = {name: values if name in lists else values[-1] for name, values in merged.items()}
    try:
        return type(query).model_validate(fields)
    except ValidationError as error:
        faults = [{**fault, "loc": ("form", *fault["loc"])} for fault in error.errors()]
        raise RequestValidationError(faults) from error


def labels_of(service: Service, parameters: LabelParameters, upload: Upload) -> Labels:
    """Return the labels of a request.

    Raises:
        LabelError: there are none, or several kinds of them.
    """
    given = [name for name in ("labels", "label_set") if getattr(parameters, name)]
    given += ["label_file"] if upload.label_file else []
    if len(given) > 1:
        raise LabelError(f"both {given[0]} and {given[1]} are given; leave one of them out")
    if parameters.template and given != ["labels"]:
        raise LabelError("template goes with labels; a label set carries its own prompts")
    if upload.label_file:
        return read_label_file(*upload.label_file)
    if parameters.labels:
        return LabelSet.parse(parameters.labels, template=parameters.template or DEFAULT_TEMPLATE)
    name = parameters.label_set or service.label_store.default
    if name is None:
        raise LabelError("the request names no labels; give labels=dog barking,rain or label_set=NAME")
    return LabelSetName(name)


def _decision(parameters: ScoreParameters) -> Decision:
    """Return how the result is to be decided.

    Raises:
        UsageError: there is a threshold without `multi`.
    """
    if parameters.threshold is not None and not parameters.multi:
        raise UsageError("threshold goes with multi; without it, labels share the probability")
    threshold = THRESHOLD if parameters.threshold is None else parameters.threshold
    return Decision(parameters.multi, parameters.unsure_margin, threshold)


def _recording_options(parameters: RecordingParameters) -> Any:  # noqa: ANN401 - pydantic has checked the values
    """Return how the recording is to be read and to become clips: keyword arguments of `Engine.score`."""
    return {name: getattr(parameters, name) for name in RecordingParameters.model_fields}
