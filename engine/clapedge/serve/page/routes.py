"""Routes of the page itself: facts about the service, the picture of a recording, and its timeline."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from clapedge.events.timeline import HOP_SECONDS, WINDOW_SECONDS, window_options
from clapedge.labels import Label, LabelSet
from clapedge.serve.disconnect import result_of
from clapedge.serve.errors import RequestError
from clapedge.serve.json_lines import LinesResponse
from clapedge.serve.page.picture import Drawing, Picture
from clapedge.serve.responses import JsonResponse
from clapedge.serve.routes.inference import labels_of
from clapedge.serve.schemas import LabelParameters
from clapedge.serve.service import Job, Service
from clapedge.serve.uploads import received

HERE = Path(__file__).parent
CLIPS = HERE.parents[1] / "demo_clips"

DECIMALS = 4
"""Decimals of a probability, which is only drawn: those of an hour are half a megabyte as it is."""

router = APIRouter(prefix="/page", include_in_schema=False)


@router.get("/facts")
async def facts(request: Request) -> Response:
    """Return the model, the limits, the label sets and the clips that the page offers."""
    service: Service = request.app.state.service
    model = await asyncio.to_thread(service.model_info)
    sets = await asyncio.to_thread(service.label_sets)
    words = _words()
    demo = [{"name": None, "labels": words["demo"]}] if model.reads_words else []
    by_clips = {name for name, one in (await asyncio.to_thread(service.embedded_sets)).items() if one.by_clips}
    named = [
        {"name": name, "by_name": name in by_clips, "labels": [_record(label) for label in labels.labels]}
        for name, labels in sets.items()
    ]
    default = service.label_store.default
    return JsonResponse(
        {
            "model": model.model,
            "weights": model.weights,
            "max_upload": service.settings.max_upload,
            "max_seconds": service.settings.max_seconds,
            "key": bool(service.settings.keys),
            "reads_words": model.reads_words,
            "glossary": words["glossary"],
            "presets": [*named, *demo] if default else [*demo, *named],
            "clips": [{"file": f"{stem}.flac", **names} for stem, names in words["clips"].items()],
        }
    )


@router.post("/picture")
async def draw(request: Request) -> Response:
    """Draw a recording: its waveform and its log-mel."""
    service: Service = request.app.state.service
    service.pool.check_room()
    async with received(request) as upload:
        recording = upload.recording

        def work(job: Job) -> Picture:
            drawing = Drawing(recording, job.engine.clip_maker, max_seconds=service.settings.max_seconds)
            for _ in drawing:
                job.check()
            return drawing.picture()

        return JsonResponse(await result_of(request, service.submit(work)))


@router.post("/timeline")
async def timeline(request: Request) -> Response:
    """Score a recording over time: lines of progress, then one with the scores of all windows and the events."""
    service: Service = request.app.state.service
    service.pool.check_room()
    async with AsyncExitStack() as stack:
        upload = await stack.enter_async_context(received(request))
        recording, names = upload.recording, upload.fields.get("label_set", [])
        if not upload.label_file and not names:
            raise RequestError("the form carries no labels; send them as the field label_file, or name a label_set")
        labels = labels_of(service, LabelParameters(label_set=names[-1] if names else None), upload)

        def records(job: Job) -> Iterator[object]:
            scorer, batches = job.scorer(labels), []
            stream = job.stream(recording, **window_options(WINDOW_SECONDS, HOP_SECONDS))
            for batch in job.batches(stream):
                batches.append(batch)
                yield {"heard": batch.position, "until": batch.end}
            found = job.engine.timeline_of(stream.join(batches), scorer, window=WINDOW_SECONDS)
            yield {
                "edges": found.edges.round(3).tolist(),
                "probabilities": found.probabilities.round(DECIMALS).tolist(),
                "events": found.events(),
            }

        response = LinesResponse(service, records)
        await response.begin(request, stack)
        return response


@cache
def _words() -> Any:  # noqa: ANN401 - the shape of our own file
    """Return the vocabulary of the page: names of clips and labels in both languages."""
    return json.loads((HERE / "words.json").read_text(encoding="utf-8"))


def _record(label: Label) -> dict[str, Any]:
    """Return a label as the page takes it, without what is the default."""
    default_prompts = LabelSet.of([label.name]).labels[0].prompts
    return {
        "name": label.name,
        **({} if label.prompts == default_prompts else {"prompts": label.prompts}),
        **({"taught": True} if label.examples or not label.prompts else {}),
        **({} if label.threshold is None else {"threshold": label.threshold}),
        **({"hidden": True} if label.hidden else {}),
    }
