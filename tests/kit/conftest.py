"""Kits for the tests: a real one of the packages that are installed here, and tiny ones that install in no time."""

import os
import shutil
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tests.kit.installing import SYSTEMCTL
from tests.kit.making import PYTHON, installed_wheel, needed_here, this_machine, tiny_options

from clapedge.kit import tarball as archive
from clapedge.kit.pack import Kit, KitOptions, pack
from clapedge.kit.wheelhouse import engine_wheel
from clapedge.model.bundle import Bundle, demo_directory


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a wheel of everything that the engine needs here, made of what is installed."""
    directory = tmp_path_factory.mktemp("wheelhouse")
    own = map(Requirement, metadata.requires("clapedge") or ())
    waiting = ["onnxruntime", "pip", *needed_here(own)]
    seen = set()
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name not in seen:
            seen.add(name)
            waiting += installed_wheel(name, directory)
    engine_wheel(None, directory / "own")
    return directory


@pytest.fixture(scope="session")
def no_pins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return constraints that pin nothing: what is installed here may be other than what is pinned."""
    path = tmp_path_factory.mktemp("pins") / "constraints.txt"
    path.write_text("# nothing\n")
    return path


@pytest.fixture(scope="session")
def real_kit(tmp_path_factory: pytest.TempPathFactory, wheelhouse: Path, no_pins: Path) -> Kit:
    """Return a kit of this engine with the demo model, for this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "COMPRESSION", 1)  # the wheels of the tests are larger than real ones, and read once
        options = KitOptions(
            target=this_machine(),
            python=PYTHON,
            precisions=("fp32", "int8"),
            wheel=next((wheelhouse / "own").glob("*.whl")),
            constraints=(no_pins,),
            find_links=wheelhouse,
        )
        return pack(Bundle.open(demo_directory()), tmp_path_factory.mktemp("kits") / "real.tar.gz", options)


@pytest.fixture(scope="session")
def tiny_kits(tmp_path_factory: pytest.TempPathFactory, no_pins: Path) -> dict[str, Path]:
    """Return unpacked kits that install in no time, by version: 1.0 and 2.0."""
    kits = {}
    for version in ("1.0", "2.0"):
        place = tmp_path_factory.mktemp("tiny")
        options = tiny_options(place / "house", version, no_pins)
        made = pack(Bundle.open(demo_directory()), place / "kit.tar.gz", options)
        shutil.unpack_archive(made.path, place / "unpacked")
        (kits[version],) = (place / "unpacked").iterdir()
    return kits


@pytest.fixture(scope="session")
def real_kit_files(tmp_path_factory: pytest.TempPathFactory, real_kit: Kit) -> Path:
    """Return the real kit, unpacked."""
    place = tmp_path_factory.mktemp("real")
    shutil.unpack_archive(real_kit.path, place)
    (kit,) = place.iterdir()
    return kit


@pytest.fixture
def no_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the services of the machine that runs the tests out of them."""
    place = tmp_path / "without"
    place.mkdir()
    (place / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    (place / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")


@pytest.fixture
def systemd(tmp_path: Path) -> Path:
    """Return a directory with a systemctl that only writes down its calls."""
    place = tmp_path / "systemd"
    place.mkdir()
    (place / "systemctl").write_text(SYSTEMCTL.format(place=place))
    (place / "systemctl").chmod(0o755)
    return place
