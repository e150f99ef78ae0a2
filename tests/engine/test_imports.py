"""What the engine loads and requires: these tests hold for an installed wheel as they do for the sources."""

import json
import os
import pkgutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement

import clapedge

NOT_FOR_DEVICES = {"torch", "transformers", "onnx", "onnxscript", "clapedge_export", "clapedge_calib"}


def modules_after(code: str) -> set[str]:
    """Return the top-level names of the modules that a fresh interpreter holds after running `code`."""
    report = "import json, sys; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, check=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def distributions(wanted: str) -> set[str]:
    """Return the names of the installed distributions that the requirement `wanted` brings, itself included."""
    found: set[str] = set()
    pending = [Requirement(wanted)]
    while pending:
        requirement = pending.pop()
        found.add(requirement.name)
        try:
            lines = requires(requirement.name) or []
        except PackageNotFoundError:
            continue
        for needed in map(Requirement, lines):
            environments = [{"extra": extra} for extra in requirement.extras or {""}]
            applies = needed.marker is None or any(map(needed.marker.evaluate, environments))
            if applies and needed.name not in found:
                pending.append(needed)
    return found


def test_importing_every_module_of_the_engine_loads_nothing_that_is_not_for_devices() -> None:
    modules = [module.name for module in pkgutil.walk_packages(clapedge.__path__, "clapedge.")]
    assert "clapedge.engine" in modules
    left_out = ("clapedge.serve.", "clapedge.cli.__main__")  # the service is an extra, from its first line on
    loaded = modules_after("\n".join(f"import {module}" for module in modules if not module.startswith(left_out)))
    assert loaded & NOT_FOR_DEVICES == set()


def test_onnx_runtime_tells_nobody_of_what_it_runs_and_leaves_no_mark(tmp_path: Path) -> None:
    homes = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(tmp_path))
    environment = {**os.environ, **homes, "CLAPEDGE_CACHE": ""}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    code = "import os; from clapedge import Engine; Engine.load(threads=1); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    assert list(tmp_path.rglob("*")) == []


def test_the_help_of_the_command_line_loads_neither_numpy_nor_onnx_runtime() -> None:
    loaded = modules_after("from clapedge.cli import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass")
    assert "clapedge" in loaded
    assert loaded & {"numpy", "onnxruntime", "soundfile", "soxr", "tokenizers"} == set()


def test_the_extra_cpu_brings_onnx_runtime_and_nothing_that_is_not_for_devices() -> None:
    brought = distributions("clapedge[cpu]")
    assert {"onnxruntime", "numpy"} <= brought
    assert brought & NOT_FOR_DEVICES == set()


def test_without_an_extra_no_onnx_runtime_is_brought_so_that_two_never_collide() -> None:
    assert not any(name.startswith("onnxruntime") for name in distributions("clapedge"))
