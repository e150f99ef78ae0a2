"""Routes of named label sets: `/v1/labels`."""

import asyncio
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from clapedge.serve import openapi as documents
from clapedge.serve.label_store import NAME, check_limits
from clapedge.serve.responses import JsonResponse
from clapedge.serve.routes.inference import finished
from clapedge.serve.schemas import AdviceList, LabelSetNames, LabelSetRecord

if TYPE_CHECKING:
    from clapedge.serve.service import Service

router = APIRouter(prefix="/v1/labels", responses=documents.PROBLEMS)

SetName = Annotated[str, Path(pattern=f"^{NAME.pattern}$", examples=["home"])]


@router.get("", response_model=LabelSetNames)
async def list_labels(request: Request) -> Response:
    """List the label sets that a request may name."""
    service: Service = request.app.state.service
    sets = await asyncio.to_thread(service.presets)
    described = {name: LabelSetRecord.of(label_set).model_dump() for name, label_set in sets.items()}
    return JsonResponse({"default": service.label_store.default, "label_sets": described})


@router.post("/check", response_model=AdviceList)
async def check_labels(request: Request, record: LabelSetRecord) -> Response:
    """Say what keeps labels from being told apart, and better words."""
    service: Service = request.app.state.service
    advice = await finished(request, service.submit_check(record.label_set()), threading.Event())
    return JsonResponse({"advice": [asdict(one) for one in advice]})


@router.get("/{name}", response_model=LabelSetRecord)
async def get_labels(request: Request, name: SetName) -> Response:
    """Return a label set."""
    service: Service = request.app.state.service
    label_set = await asyncio.to_thread(service.label_set, name)
    return JsonResponse(LabelSetRecord.of(label_set).model_dump())


@router.put("/{name}", response_model=LabelSetRecord)
async def put_labels(request: Request, name: SetName, record: LabelSetRecord) -> Response:
    """Keep a label set under a name, for later requests to name it."""
    service: Service = request.app.state.service
    label_set = check_limits(record.label_set(), service.settings)
    await asyncio.to_thread(service.label_store.put, name, label_set)
    return JsonResponse(LabelSetRecord.of(label_set).model_dump())


@router.delete("/{name}", status_code=204)
async def delete_labels(request: Request, name: SetName) -> Response:
    """Forget a label set that was put."""
    service: Service = request.app.state.service
    await asyncio.to_thread(service.label_store.delete, name)
    return Response(status_code=204)
