"""Routes for those who watch: `/healthz`, `/readyz`, `/metrics`, `/v1/models`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from clapedge import __version__
from clapedge.serve import openapi as documents
from clapedge.serve.responses import JsonResponse
from clapedge.serve.schemas import Health, ModelList, Readiness

if TYPE_CHECKING:
    from clapedge.serve.service import Service

router = APIRouter()

READINESS: dict[int | str, dict[str, Any]] = {
    503: {"model": Readiness, "description": "No bundle is loaded, or the service is ending."}
}


@router.get("/healthz", response_model=Health)
async def healthz() -> Response:
    """Say that the process answers."""
    return JsonResponse({"status": "ok", "version": __version__})


@router.get("/readyz", response_model=Readiness, responses=READINESS)
async def readyz(request: Request) -> Response:
    """Say whether requests are served, and whether a newer bundle was refused."""
    service: Service = request.app.state.service
    bundle = service.facts().bundle if service.ready else None
    told = {"ready": service.ready, "bundle": bundle, "refused": service.models.fault}
    return JsonResponse(told, status_code=200 if service.ready else 503)


@router.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
async def metrics(request: Request) -> Response:
    """Return what was counted, for Prometheus."""
    service: Service = request.app.state.service
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/models", response_model=ModelList, responses=documents.problems(401, 503))
async def models(request: Request) -> Response:
    """Describe the bundle that answers, and name those beside it."""
    service: Service = request.app.state.service
    others = [{"bundle": name, "serving": False, "fault": fault} for name, fault in service.models.others.items()]
    return JsonResponse({"models": [{"serving": True, **asdict(service.facts())}, *others]})
