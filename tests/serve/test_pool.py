"""The pool: what it takes it does, however it ends."""

import threading
from concurrent.futures import Future
from typing import Any

import pytest
from tests.serve.staging import PATIENCE

from clapedge.serve.errors import NotReadyError
from clapedge.serve.metrics import Metrics
from clapedge.serve.pool import Pool

MOMENT = 0.2
"""Seconds in which a thread that may go on has gone on."""


def test_work_that_comes_while_a_pool_ends_is_done_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(workers=1, queue=1, metrics=Metrics())
    ending = threading.Thread(target=pool.close)
    submit = pool._executor.submit

    def late(*work: Any) -> Future[Any]:  # noqa: ANN401 - as the executor's
        ending.start()
        ending.join(MOMENT)
        return submit(*work)

    monkeypatch.setattr(pool._executor, "submit", late)
    assert pool.submit(lambda: "done").result(PATIENCE) == "done"
    ending.join(PATIENCE)
    with pytest.raises(NotReadyError, match="in a moment"):
        pool.submit(lambda: "never")
    assert pool.inside == 0
