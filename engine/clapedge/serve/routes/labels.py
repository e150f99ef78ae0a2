"""Routes of named label sets: `/v1/labels`."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from clapedge.serve import openapi
from clapedge.serve.disconnect import result_of
from clapedge.serve.label_store import NAME, check_limits
from clapedge.serve.responses import JsonResponse
from clapedge.serve.schemas import AdviceList, LabelSetNames, LabelSetRecord

if TYPE_CHECKING:
    from clapedge.serve.service import Service

router = APIRouter(prefix="/v1/labels", responses=openapi.PROBLEMS)

SetName = Annotated[str, Path(pattern=f"^{NAME.pattern}$", examples=["home"])]


@router.get("", response_model=LabelSetNames)
async def list_labels(request: Request) -> Response:
    """List the label sets that a request may name."""
    service: Service = request.app.state.service
    sets = await asyncio.to_thread(service.label_sets)
    embedded = await asyncio.to_thread(service.embedded_sets)
    records = {name: LabelSetRecord.of(each, embedded.get(name)).model_dump() for name, each in sets.items()}
    return JsonResponse({"default": service.label_store.default, "label_sets": records})


@router.post("/check", response_model=AdviceList)
async def check_labels(request: Request, record: LabelSetRecord) -> Response:
    """Check a label set: report labels that are hard to distinguish, and suggest better ones."""
    service: Service = request.app.state.service
    advice = await result_of(request, service.submit_check(record.label_set()))
    return JsonResponse({"advice": [asdict(one) for one in advice]})


@router.get("/{name}", response_model=LabelSetRecord)
async def get_labels(request: Request, name: SetName) -> Response:
    """Return a label set."""
    service: Service = request.app.state.service
    label_set = await asyncio.to_thread(service.label_set, name)
    embedded = await asyncio.to_thread(service.embedded_sets)
    return JsonResponse(LabelSetRecord.of(label_set, embedded.get(name)).model_dump())


@router.put("/{name}", response_model=LabelSetRecord)
async def put_labels(request: Request, name: SetName, record: LabelSetRecord) -> Response:
    """Store a label set under a name, for later requests."""
    service: Service = request.app.state.service
    label_set = record.label_set()
    check_limits(label_set, service.settings)
    await asyncio.to_thread(service.label_store.put, name, label_set)
    return JsonResponse(LabelSetRecord.of(label_set).model_dump())


@router.delete("/{name}", status_code=204)
async def delete_labels(request: Request, name: SetName) -> Response:
    """Delete a label set that a client has put."""
    service: Service = request.app.state.service
    await asyncio.to_thread(service.label_store.delete, name)
    return Response(status_code=204)
