"""The INT8 tower on an emulated processor without VNNI."""

import platform
import shutil
import sys

import pytest

import avx2_check
from clapedge.model.bundle import demo_directory


def test_int8_products_are_exact_on_a_processor_on_which_they_would_saturate() -> None:
    emulator = next(filter(None, map(shutil.which, avx2_check.EMULATORS)), None)
    if emulator is None or (platform.machine(), sys.platform) != ("x86_64", "linux"):
        pytest.skip("emulating a Haswell needs Linux on x86-64 and: apt-get install qemu-user-static")
    found = avx2_check.check(emulator, "Haswell", demo_directory(), "exact")
    assert found["saturates"]
    assert found["int8"]["cosine"] >= 0.9999  # 0.9972 where products saturate
    assert found["fp32"]["holds"]
