"""What the page asks beside the HTTP interface: what the service is like, and the picture of a recording."""

import asyncio
import json
import threading
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from fastapi import APIRouter, Request
from starlette.responses import Response

from clapedge.events.timeline import HOP_SECONDS, WINDOW_SECONDS, window_options
from clapedge.labels import Label, LabelSet
from clapedge.serve.errors import RequestError
from clapedge.serve.json_lines import Lines, LinesResponse
from clapedge.serve.page import picture
from clapedge.serve.responses import JsonResponse
from clapedge.serve.routes.inference import finished, first_line
from clapedge.serve.service import Job, Named, Service
from clapedge.serve.uploads import Upload, read_label_file, received

HERE = Path(__file__).parent
CLIPS = HERE.parents[1] / "demo_clips"

DECIMALS = 4
"""Of a probability that is drawn: an hour of them is half a megabyte as it is."""

router = APIRouter(prefix="/page", include_in_schema=False)


@router.get("/facts")
async def facts(request: Request) -> Response:
    """Say what answers, within which limits, and which label sets and clips there are to begin with."""
    service: Service = request.app.state.service
    model = await asyncio.to_thread(service.facts)
    sets = await asyncio.to_thread(service.presets)
    words = _words()
    demo = [{"name": None, "labels": words["demo"]}] if model.reads_words else []
    named = [{"name": name, "labels": [_record(label) for label in labels.labels]} for name, labels in sets.items()]
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
        recording, stop = _recording(upload), threading.Event()

        def work(job: Job) -> picture.Picture:
            drawing = picture.Drawing(recording, job.engine.clip_maker, max_seconds=service.settings.max_seconds)
            for _ in drawing:
                job.check()
            return drawing.picture()

        return JsonResponse(await finished(request, service.submit(work, stop), stop))


@router.post("/timeline")
async def timeline(request: Request) -> Response:
    """Score a recording over time: lines of how far it was heard, then one with the scores of all windows."""
    service: Service = request.app.state.service
    service.pool.check_room()
    async with AsyncExitStack() as stack:
        upload = await stack.enter_async_context(received(request))
        recording, named = _recording(upload), upload.fields.get("label_set", [])
        if not upload.label_file and not named:
            raise RequestError("the form carries no labels; send them as the field label_file, or name a label_set")
        lines, stop = Lines(), threading.Event()
        labels = read_label_file(*upload.label_file) if upload.label_file else Named(named[0])

        def work(job: Job) -> None:
            scorer = job.engine.scorer(service.embed_labels(job.model, labels))
            stream = job.stream(recording, **window_options(WINDOW_SECONDS, HOP_SECONDS))
            batches = []
            for batch in job.batches(stream):
                batches.append(batch)
                lines.write({"heard": batch.position, "until": batch.end})
            found = job.engine.timeline_of(stream.join(batches), scorer, window=WINDOW_SECONDS)
            lines.write(
                {
                    "edges": found.edges.round(3).tolist(),
                    "probabilities": found.probabilities.round(DECIMALS).tolist(),
                    "events": found.events(),
                }
            )

        future = service.submit(work, stop)
        future.add_done_callback(lambda _: lines.end())
        first = await first_line(request, lines, future, stop)
        return LinesResponse(first, lines, future, stop, stack.pop_all().aclose)


def _recording(upload: Upload) -> BinaryIO:
    """Return the recording of an upload.

    Raises:
        RequestError: there is none.
    """
    if upload.recording is None:
        raise RequestError("the form carries no recording; send it as the field file")
    return cast("BinaryIO", upload.recording)  # of a file object, what the engine asks for


@cache
def _words() -> Any:  # noqa: ANN401 - the shape of a file of ours
    """Return the words of the page that are data: names of clips and labels in both languages."""
    return json.loads((HERE / "words.json").read_text(encoding="utf-8"))


def _record(label: Label) -> dict[str, Any]:
    """Describe a label; a prompt that is the name in the usual frame goes without saying."""
    usual = LabelSet.of([label.name]).labels[0].prompts
    return {
        "name": label.name,
        **({} if label.prompts == usual else {"prompts": label.prompts}),
        **({} if label.threshold is None else {"threshold": label.threshold}),
        **({"hidden": True} if label.hidden else {}),
    }
