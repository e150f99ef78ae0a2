"""Waiting for work that ends when its client disconnects."""

import asyncio
from typing import Any, TypeVar

from starlette.requests import Request

from clapedge.serve.errors import GoneError
from clapedge.serve.service import Submission

T = TypeVar("T")


async def result_of(request: Request, submission: Submission[T]) -> T:
    """Return the result of some work, which ends if the client disconnects.

    Raises:
        GoneError: the client disconnected.
    """
    done = asyncio.wrap_future(submission.future)
    await wait_while_connected(request, done, submission)
    return done.result()


async def wait_while_connected(request: Request, awaited: "asyncio.Future[Any]", submission: Submission[Any]) -> None:
    """Wait for a future that some work completes; cancel both if the client disconnects.

    Raises:
        GoneError: the client disconnected.
    """
    disconnected = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({awaited, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not awaited.done():
            raise GoneError
    finally:
        disconnected.cancel()
        if not awaited.done():
            awaited.cancel()
            await cancel(submission)  # the worker reads the upload, which is closed when this returns


async def cancel(submission: Submission[Any]) -> None:
    """Cancel some work, wait until it has ended, and drop its result."""
    submission.cancel()
    ended = asyncio.wrap_future(submission.future)
    await asyncio.wait({ended})
    if not ended.cancelled():
        ended.exception()  # asyncio would report an error that nobody retrieves


async def _disconnected(request: Request) -> None:
    """Return when the client disconnects."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
