"""Routes for monitoring: `/healthz`, `/readyz`, `/metrics`, `/v1/models`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from clapedge import __version__
from clapedge.serve import openapi
from clapedge.serve.responses import JsonResponse
from clapedge.serve.schemas import Health, ModelList, Readiness

if TYPE_CHECKING:
    from clapedge.serve.service import Service

router = APIRouter()

READINESS: dict[int | str, dict[str, Any]] = {
    503: {"model": Readiness, "description": "No bundle is loaded, or the service is shutting down."}
}


@router.get("/healthz", response_model=Health)
async def healthz() -> Response:
    """Report that the process is alive."""
    return JsonResponse({"status": "ok", "version": __version__})


@router.get("/readyz", response_model=Readiness, responses=READINESS)
async def readyz(request: Request) -> Response:
    """Report whether requests are served, and whether a newer bundle was refused."""
    service: Service = request.app.state.service
    ready = service.ready
    content = {
        "ready": ready,
        "bundle": service.model_info().bundle if ready else None,
        "refused": service.models.fault,
    }
    return JsonResponse(content, status_code=200 if ready else 503)


@router.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
async def metrics(request: Request) -> Response:
    """Return the metrics for Prometheus."""
    service: Service = request.app.state.service
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/models", response_model=ModelList, responses=openapi.problems(401, 503))
async def models(request: Request) -> Response:
    """Describe the current bundle, and list the others."""
    service: Service = request.app.state.service
    others = [{"bundle": name, "serving": False, "fault": fault} for name, fault in service.models.others.items()]
    return JsonResponse({"models": [{"serving": True, **asdict(service.model_info())}, *others]})
