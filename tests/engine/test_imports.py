"""What the engine loads and requires: these tests hold for an installed wheel as they do for the sources."""

import json
import pkgutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires

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
    loaded = modules_after("\n".join(f"import {module}" for module in modules if not module.endswith("__main__")))
    assert loaded & NOT_FOR_DEVICES == set()


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
