"""The application: routes, error handlers, the OpenAPI document, and the middleware around them."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from clapedge import __version__
from clapedge.errors import ClapEdgeError, UsageError
from clapedge.serve.middleware import LimitsMiddleware
from clapedge.serve.openapi import complete_document
from clapedge.serve.responses import error_response, status_response
from clapedge.serve.routes import inference, labels, status
from clapedge.serve.service import Service

DESCRIPTION = """Zero-shot audio classification: rank any labels against a recording, with a CLAP model on this machine.

Errors are `application/problem+json`; their `detail` ends with what to do. A full queue answers 429 with `Retry-After`.
"""

HTTP_DETAILS = {
    400: "the body is not understood; see /openapi.json",
    404: "there is nothing here; see /openapi.json",
    405: "this path takes other methods; see /openapi.json",
}

LONGEST_DETAIL = 1000
"""Characters of what is wrong with the fields of a request, which may be many."""

log = logging.getLogger("clapedge.serve")


class Application(FastAPI):
    """FastAPI with a complete OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        """Return the document, made once."""
        return self.openapi_schema or complete_document(super().openapi())


def create_app(service: Service, *, page: bool = True) -> FastAPI:
    """Return the application of a service; it closes the service when it ends.

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

    app = Application(
        title="clapedge",
        summary="Zero-shot audio classification on this machine.",
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
    for routes in (inference, labels, status):
        app.include_router(routes.router)
    app.add_exception_handler(ClapEdgeError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_unexpected)
    app.add_middleware(LimitsMiddleware, service=service)
    if page:
        from clapedge.serve.page import mount

        mounted: FastAPI = mount(app, service)
        return mounted
    return app


async def _on_error(_: Request, error: Exception) -> Response:
    """Respond to an error of this package."""
    return error_response(error) if isinstance(error, ClapEdgeError) else status_response(500, str(error))


async def _on_invalid(_: Request, error: Exception) -> Response:
    """Respond to invalid fields, naming each."""
    faults: Any = error.errors() if isinstance(error, RequestValidationError) else ()
    found = [f"{'.'.join(map(str, fault['loc'][1:])) or fault['loc'][0]}: {fault['msg']}" for fault in faults]
    return error_response(UsageError(f"{'; '.join(found)[:LONGEST_DETAIL]}; see /openapi.json"))


async def _on_http_error(_: Request, error: Exception) -> Response:
    """Respond to an error of routing."""
    code, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    response = status_response(code, HTTP_DETAILS.get(code, str(error)))
    response.headers.update(headers or {})
    return response


async def _on_unexpected(request: Request, error: Exception) -> Response:
    """Respond to an unexpected error; only the log shows what it was."""
    log.error("unexpected error at %s", request.url.path, exc_info=error)
    return status_response(500, "the service failed unexpectedly; its log says why, report it with the log")
