"""The stand-ins themselves: what they log, and that what is planted fails."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.cuda_standin.calls import CAPTURE, REPLAY, Calls

from clapedge.errors import GpuMemoryError
from clapedge.model.gpu_session import DeviceSession
from clapedge.model.providers import choose

CLIP = {"input_features": np.zeros((1, 1, 2, 4), np.float32)}


def test_a_session_runs_on_the_stand_ins_and_not_on_a_gpu(calls: Calls, tiny_tower: Path) -> None:
    session = DeviceSession(tiny_tower, choose("cuda"), batch=1)
    session.run(CLIP)
    session.close()
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libcudart" in line}
    assert [Path(library).parent for library in mapped] == [Path(os.environ["LD_LIBRARY_PATH"]).resolve()]
    counts = calls.counts()
    assert counts["cublasSgemm_v2"] > 0
    assert (counts[CAPTURE], counts[REPLAY]) == (1, 3)  # one that was captured, one to warm up, and the run


def test_what_is_planted_fails_from_the_call_on_that_it_names(
    tiny_tower: Path, plant: Callable[[str], None], calls: Calls
) -> None:
    session = DeviceSession(tiny_tower, choose("cuda"), batch=1)
    plant("nothing:1,cudaMemcp?:2:3")
    session.run(CLIP)  # one copy there, one back
    for _ in range(2):
        with pytest.raises(GpuMemoryError):
            session.run(CLIP)
    plant("")
    session.run(CLIP)
    session.close()
    assert [call["code"] for call in calls.all() if "code" in call] == [2, 2]


def test_a_capture_refuses_the_copies_of_other_threads_as_a_driver_does() -> None:
    runtime = ctypes.CDLL("libcudart.so.13")
    graph = ctypes.c_void_p()
    with ThreadPoolExecutor(1) as pool:
        for spoil in (False, True):
            assert runtime.cudaStreamBeginCapture(None, 0) == 0
            if spoil:
                assert pool.submit(runtime.cudaMalloc, ctypes.byref(ctypes.c_void_p()), 8).result() == 900
            assert runtime.cudaStreamEndCapture(None, ctypes.byref(graph)) == (901 if spoil else 0)
            assert bool(graph) is not spoil
