"""Wheels and kits for the tests, made of what is installed here or of nothing at all."""

import platform
import sys
import zipfile
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from clapedge.kit.pack import KitOptions
from clapedge.kit.targets import TARGETS, TargetName

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LEFT_OUT = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
"""What an installation adds to a distribution, which a wheel has not."""

STUB_PIP = """
import pathlib, sys, zipfile
words = sys.argv
house, place = pathlib.Path(words[words.index("--find-links") + 1]), pathlib.Path(sys.prefix)
assert {"--no-index", "--require-hashes", "--no-deps", "--isolated"} < set(words)
(wheel,) = house.glob("clapedge-*.whl")
zipfile.ZipFile(wheel).extractall(place)
script = place / "bin" / "clapedge"
script.write_text(f"#!{sys.executable}\\nimport runpy\\nrunpy.run_path('{place}/clapedge.py')\\n")
script.chmod(0o755)
"""
"""What the tiny kits have for pip: it puts the one wheel into the environment."""

STUB_CLAPEDGE = """
import os, sys
if sys.argv[1:3] == ["bundle", "selftest"]:
    sys.exit(int(os.environ.get("SELFTEST", "0")))
if sys.argv[1:2] == ["score"]:
    assert open(sys.argv[2], "rb").read(4) == b"fLaC", sys.argv
    sys.exit("they are of another model" if open(sys.argv[-1]).read() != "fit" else 0)
print("{version}", os.environ["CLAPEDGE_BUNDLE"])
"""
"""What the tiny kits have for clapedge: it says its version and its bundle, and exits 0 by default."""


def write_wheel(
    directory: Path,
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    module: tuple[str, str] = ("empty.py", ""),
) -> Path:
    """Write a wheel of nothing but metadata and one module: its file and its text."""
    described = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "License-Expression: MIT"]
    lines += [f"Requires-Dist: {each}" for each in requires]
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as written:
        written.writestr(zipfile.ZipInfo(module[0]), module[1])
        written.writestr(zipfile.ZipInfo(f"{described}/METADATA"), "\n".join(lines) + "\n\n")
        written.writestr(zipfile.ZipInfo(f"{described}/WHEEL"), "Wheel-Version: 1.0\nTag: py3-none-any\n")
        written.writestr(zipfile.ZipInfo(f"{described}/licenses/LICENSE"), "Do as you like.\n")
        written.writestr(zipfile.ZipInfo(f"{described}/RECORD"), "")
    return path


def this_machine() -> TargetName:
    """Return the target that this machine is."""
    found = [name for name, target in TARGETS.items() if target.machine == platform.machine()]
    if sys.platform != "linux" or not found:
        pytest.skip(f"kits are for Linux on x86-64 and ARM, and this is {sys.platform} on {platform.machine()}")
    return found[0]


def installed_wheel(name: str, directory: Path) -> list[str]:
    """Write an installed distribution as the wheel that it came from; return what it requires here."""
    distribution = metadata.distribution(name)
    tags = [line.partition(": ")[2] for line in str(distribution.read_text("WHEEL")).splitlines() if "Tag: " in line]
    parts = (".".join(dict.fromkeys(each)) for each in zip(*(tag.split("-") for tag in tags), strict=True))
    spelled = distribution.metadata["Name"].replace("-", "_")
    with zipfile.ZipFile(directory / f"{spelled}-{distribution.version}-{'-'.join(parts)}.whl", "w") as written:
        for file in distribution.files or ():
            inside = file.parts[0] != ".." and "__pycache__" not in file.parts
            if inside and not (".dist-info" in file.parts[0] and file.name in LEFT_OUT):
                written.write(str(distribution.locate_file(file)), str(file))
        record = next(str(file) for file in distribution.files or () if file.name == "RECORD")
        written.writestr(record, "")
    return needed_here(map(Requirement, distribution.requires or ()))


def needed_here(requirements: Iterable[Requirement]) -> list[str]:
    """Return the names of the requirements that count on this machine, without any extra."""
    return [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]


def tiny_options(directory: Path, version: str, pins: Path) -> KitOptions:
    """Return the options of a kit that installs in no time."""
    directory.mkdir(parents=True, exist_ok=True)
    write_wheel(directory, "pip", "1", module=("pip/__main__.py", STUB_PIP))
    engine = write_wheel(
        directory, "clapedge", version, module=("clapedge.py", STUB_CLAPEDGE.replace("{version}", version))
    )
    return KitOptions(
        target=this_machine(),
        python=PYTHON,
        wheel=engine,
        constraints=(pins,),
        find_links=directory,
        clips=[Path(__file__).parents[2] / "engine/clapedge/demo_clips/siren.flac"],
    )
