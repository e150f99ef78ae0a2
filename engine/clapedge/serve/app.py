"""The application: routes, errors, the OpenAPI document, and the guard around all of it."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from clapedge import __version__
from clapedge.errors import ClapEdgeError, UsageError
from clapedge.serve import openapi as documents
from clapedge.serve.middleware import LimitsMiddleware
from clapedge.serve.responses import answer, answer_status
from clapedge.serve.routes import inference as api
from clapedge.serve.routes import labels as label_api
from clapedge.serve.routes import status as status_api
from clapedge.serve.service import Service

DESCRIPTION = """Scores recordings against any words, with a CLAP model on this machine.

Errors are `application/problem+json`; their `detail` ends with what to do. A full queue answers 429 with `Retry-After`.
"""

log = logging.getLogger("clapedge.serve")


def create_app(service: Service, *, page: bool = True) -> FastAPI:
    """Make the application of a service; it closes the service when it ends.

    Args:
        service: does the work.
        page: whether the page is mounted at `/`.

    Raises:
        MissingExtraError: the page is wanted, and Gradio is not installed.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="clapedge",
        summary="Which of the sounds that you name does a recording hold?",
        description=DESCRIPTION,
        version=__version__,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,  # Swagger's page would load scripts from another host
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.service = service
    described = app.openapi
    app.openapi = lambda: app.openapi_schema or documents.completed(described())  # type: ignore[method-assign]
    for router in (api.router, label_api.router, status_api.router):
        app.include_router(router)
    app.add_exception_handler(ClapEdgeError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_surprise)
    app.add_middleware(LimitsMiddleware, service=service)
    if page:
        from clapedge.serve.page import mount

        mounted: FastAPI = mount(app, service)
        return mounted
    return app


async def _on_error(_: Request, error: Exception) -> Response:
    """Answer with an error of ours."""
    return answer(error) if isinstance(error, ClapEdgeError) else answer_status(500, str(error))


async def _on_invalid(_: Request, error: Exception) -> Response:
    """Answer that fields are not understood, naming each."""
    faults: Sequence[Any] = error.errors() if isinstance(error, RequestValidationError) else ()
    return answer(UsageError(f"{told(faults)}; see /openapi.json"))


async def _on_http_error(_: Request, error: Exception) -> Response:
    """Answer with an error of the routing."""
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    details = {
        400: "the body is not understood; see /openapi.json",
        404: "there is nothing here; see /openapi.json",
        405: "this path takes other methods; see /openapi.json",
    }
    response = answer_status(status, details.get(status, str(error)))
    response.headers.update(headers or {})
    return response


async def _on_surprise(request: Request, error: Exception) -> Response:
    """Answer that something unexpected went wrong; what it was stands in the log alone."""
    log.error("unexpected error at %s", request.url.path, exc_info=error)
    return answer_status(500, "the service failed unexpectedly; its log says why, report it with the log")


def told(faults: Sequence[Any]) -> str:
    """Return what pydantic has found, in a sentence."""
    found = [f"{'.'.join(map(str, fault['loc'][1:])) or fault['loc'][0]}: {fault['msg']}" for fault in faults]
    return "; ".join(found)[:1000]
