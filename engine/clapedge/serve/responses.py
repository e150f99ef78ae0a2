"""Answers: what msgspec has encoded, and errors as problems."""

from http import HTTPStatus

import msgspec
from starlette.responses import Response

from clapedge.errors import ClapEdgeError, UsageError
from clapedge.serve.errors import MEDIA_TYPE, Problem, ServiceError, problem


class JsonResponse(Response):
    """JSON as the command line writes it."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Encode any record."""
        return msgspec.json.encode(content)


class ProblemResponse(JsonResponse):
    """An error."""

    media_type = MEDIA_TYPE


def answer(error: ClapEdgeError) -> ProblemResponse:
    """Answer with an error."""
    told = problem(error)
    headers = error.headers if isinstance(error, ServiceError) else None
    return ProblemResponse(told, status_code=told.status, headers=headers)


def answer_status(status: int, detail: str) -> ProblemResponse:
    """Answer with an error that has no class of ours: of routing, or one that nobody expected."""
    told = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        error=HTTPStatus(status).phrase.replace(" ", "") + "Error",
        exit_code=UsageError.exit_code,
    )
    return ProblemResponse(told, status_code=status)
