"""Hold bundles against their proofs on older x86 processors, under QEMU's user emulation; one JSON file.

A Haswell has AVX2 without VNNI, on which INT8 products of unsigned by signed bytes saturate, a Nehalem not even AVX.
ONNX Runtime takes the kernels that it takes there. What comes out tells whether results are right, nothing of speed.
Needs Linux on x86-64 and Debian's package qemu-user-static, or qemu-user. Exits with 0 if every variant holds, 1 if one
does not.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from clapedge.model.bundle import demo_directory

PROCESSORS = {"this machine": None, "AVX2 (Haswell)": "Haswell", "SSE4.2 (Nehalem)": "Nehalem"}
"""What is emulated, by QEMU's name; QEMU emulates neither AVX-VNNI nor AVX-512."""

EMULATORS = ("qemu-x86_64-static", "qemu-x86_64")

INSIDE = """
import dataclasses, json, sys, warnings
warnings.simplefilter("ignore")
from clapedge import Engine
from clapedge.model import saturation, sessions
from clapedge.model.bundle import Bundle
if sys.argv[2] == "as it comes":  # without asking for exact products
    sessions.saturates = lambda: False
found = {"saturates": saturation.saturates()}
for variant in Bundle.open(sys.argv[1]).variants("audio"):
    with Engine.load(sys.argv[1], provider="cpu", precision=variant, threads=1, self_check=False) as engine:
        found[variant] = dataclasses.asdict(engine.check_variant())
print(json.dumps(found))
"""
"""What runs on the processor: whether its products saturate, and how near each audio tower comes to its model."""


def check(emulator: str, processor: str | None, bundle: Path, products: str) -> dict[str, Any]:
    """Return the figures of a bundle on a processor; None is this machine, without emulation."""
    emulated = [emulator, "-cpu", processor] if processor else []
    command = [*emulated, os.path.realpath(sys.executable), "-c", INSIDE, str(bundle), products]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "CLAPEDGE_CACHE": ""}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)  # noqa: S603 - our own words
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Check every bundle on every processor and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, action="append", default=[], help="check this one too; repeats")
    parser.add_argument("--out", type=Path, default=Path("bench/results/avx2.json"))
    options = parser.parse_args()
    emulator = next(filter(None, map(shutil.which, EMULATORS)), None)
    if emulator is None or platform.machine() != "x86_64" or sys.platform != "linux":
        print("needs Linux on x86-64 and: apt-get install qemu-user-static", file=sys.stderr)
        return 2
    results: dict[str, Any] = {}
    holds = True
    for bundle in (demo_directory(), *options.bundle):
        for name, processor in PROCESSORS.items():
            print(f"{bundle.name} on {name} ...", file=sys.stderr)
            ways = {way: check(emulator, processor, bundle, way) for way in ("exact", "as it comes")}
            results.setdefault(bundle.name, {})[name] = ways
            holds &= all(each["holds"] for key, each in ways["exact"].items() if key != "saturates")
    version = subprocess.run([emulator, "--version"], check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own words
    import onnxruntime

    about = {"onnxruntime": onnxruntime.__version__, "qemu": re.findall(r"version ([\d.]+)", version)[0]}
    whole = json.dumps({"about": about, "results": results}, indent=2)
    options.out.write_text(whole + "\n", encoding="utf-8")
    print(whole)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
