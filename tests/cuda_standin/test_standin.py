"""The stand-ins themselves: what they log, and that what is planted fails."""

import os
from pathlib import Path

import pytest
from tests.cuda_standin.calls import Calls

from clapedge.model.gpu_session import DeviceSession
from clapedge.model.providers import choose

pytest.importorskip("onnx")


def test_a_session_runs_on_the_stand_ins_and_not_on_a_gpu(calls: Calls, tiny_tower: Path) -> None:
    session = DeviceSession(tiny_tower, choose("cuda"), batch=1)
    assert session.input_shapes == {"input_features": (1, 1, 2, 4)}
    assert calls.counts()["cublasSgemm_v2"] > 0
    libraries = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libcudart" in line}
    assert [Path(library).parent for library in libraries] == [Path(os.environ["LD_LIBRARY_PATH"]).resolve()]
