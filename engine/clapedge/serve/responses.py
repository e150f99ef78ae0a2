"""Responses: records as JSON, errors as problems."""

from http import HTTPStatus

import msgspec
from starlette.responses import Response

from clapedge.errors import ClapEdgeError, UsageError
from clapedge.serve.errors import MEDIA_TYPE, Problem, ServiceError, problem_of


class JsonResponse(Response):
    """JSON as the command line writes it."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Encode a record of any type that msgspec knows."""
        return msgspec.json.encode(content)


class ProblemResponse(JsonResponse):
    """An error."""

    media_type = MEDIA_TYPE


def error_response(error: ClapEdgeError) -> ProblemResponse:
    """Return the response to an error of this package."""
    problem = problem_of(error)
    headers = error.headers if isinstance(error, ServiceError) else None
    return ProblemResponse(problem, status_code=problem.status, headers=headers)


def status_response(status: int, detail: str) -> ProblemResponse:
    """Return the response to any other error: one of routing, or an unexpected one."""
    title = HTTPStatus(status).phrase
    error = title.replace(" ", "") + "Error"
    problem = Problem(title=title, status=status, detail=detail, error=error, exit_code=UsageError.exit_code)
    return ProblemResponse(problem, status_code=status)
