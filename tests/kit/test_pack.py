"""What a kit holds, and that it is the same whenever it is made of the same."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tests.kit.making import PYTHON, this_machine, tiny_options, write_wheel

from clapedge.cli.bundle import bundle as bundle_command
from clapedge.errors import BundleError, ClapEdgeWarning, LabelError, UsageError
from clapedge.kit import pack as packing
from clapedge.kit import wheelhouse
from clapedge.kit.pack import Kit, KitOptions, pack
from clapedge.kit.sbom import write_licences
from clapedge.kit.targets import TARGETS
from clapedge.kit.wheel import Wheel, rebuild
from clapedge.kit.wheelhouse import WheelRequest, collect_wheels, resolve
from clapedge.model.bundle import Bundle, demo_directory, sha256

pytestmark = pytest.mark.filterwarnings("ignore:clapedge-demo is the built-in demo model")


def test_a_kit_made_twice_of_the_same_is_the_same_byte_for_byte(
    tmp_path: Path, no_pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for number, mask in enumerate((0o022, 0o077)):
        options = tiny_options(tmp_path / f"house{number}", "1.0", no_pins)
        before = os.umask(mask)
        try:
            made.append(pack(Bundle.open(demo_directory()), tmp_path / f"{number}.tar.gz", options))
        finally:
            os.umask(before)
        monkeypatch.setattr(time, "time", lambda: 2e9)
    assert made[0].path.read_bytes() == made[1].path.read_bytes()
    assert made[0].sha256 == sha256(made[1].path)


def test_an_archive_says_nothing_of_who_made_it_and_when(real_kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    with tarfile.open(real_kit.path) as archive:
        entries = archive.getmembers()
    names = [entry.name for entry in entries]
    assert names == sorted(names)
    assert {(entry.uid, entry.gid, entry.uname, entry.mtime) for entry in entries} == {(0, 0, "", 1_580_601_600)}
    assert {entry.mode for entry in entries if entry.name.endswith(".sh")} == {0o755}


def test_every_wheel_but_pip_is_pinned_with_its_hash(real_kit_files: Path) -> None:
    lines = (real_kit_files / "requirements.txt").read_text().splitlines()
    pinned = {line.rpartition(":")[2] for line in lines}
    wheels = {sha256(path): path.name for path in (real_kit_files / "wheels").glob("*.whl")}
    assert pinned == {digest for digest, name in wheels.items() if not name.startswith("pip-")}
    assert all(re.fullmatch(r"[a-z0-9.-]+==\S+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)


def test_the_list_of_parts_is_cyclonedx_and_names_every_wheel_with_hash_and_licence(real_kit_files: Path) -> None:
    text = (real_kit_files / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    parts = {each["name"]: each for each in json.loads(text)["components"] if each["type"] == "library"}
    wheels = [Wheel.read(path) for path in (real_kit_files / "wheels").glob("*.whl")]
    assert {name: part["hashes"][0]["content"] for name, part in parts.items()} == {
        wheel.name: sha256(wheel.path) for wheel in wheels
    }
    assert all(part["licenses"] for part in parts.values())
    assert {place.name for place in (real_kit_files / "licences").iterdir() if any(place.iterdir())} == {
        f"{wheel.name}-{wheel.version}" for wheel in wheels
    }


def test_a_licence_at_the_root_of_a_wheel_comes_along(tmp_path: Path) -> None:
    path = write_wheel(tmp_path, "thing", "1.0")
    with zipfile.ZipFile(path, "a") as wheel:
        wheel.writestr("LICENSE", "As you like.\n")
    write_licences([Wheel.read(path)], tmp_path / "licences")
    found = {each.name: each.read_text() for each in (tmp_path / "licences" / "thing-1.0").iterdir()}
    assert found["LICENSE"] == "As you like.\n"


def test_a_device_gets_the_variants_and_labels_that_were_chosen_and_no_text_tower(tiny_kits: dict[str, Path]) -> None:
    cut = Bundle.open(tiny_kits["1.0"] / "bundle")
    assert [file.path for file in cut.manifest.files] == ["audio.int8.onnx", "pool.npz", "labels/demo-clips.npz"]
    assert cut.faults() == []
    assert {path.name for path in cut.directory.rglob("*") if path.is_file()} == {
        "audio.int8.onnx",
        "demo-clips.npz",
        "manifest.json",
        "pool.npz",
    }


def test_the_text_tower_and_label_sets_come_along_when_asked_for(tmp_path: Path, no_pins: Path) -> None:
    labels = tmp_path / "home.txt"
    labels.write_text("rain\nsiren\n")
    options = replace(tiny_options(tmp_path / "house", "1.0", no_pins), text=True, labels=[str(labels), "wildlife"])
    made = pack(Bundle.open(demo_directory()), tmp_path / "kit.tar.gz", options)
    with tarfile.open(made.path) as archive:
        names = {Path(name).name for name in archive.getnames() if "/bundle/" in name}
    sets = {"home.npz", "wildlife.npz", "pool.npz"}
    assert names == {"audio.int8.onnx", "text.int8.onnx", "tokenizer.json", "manifest.json", *sets}


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"labels": ["nowhere"]}, LabelError, "nowhere does not exist"),
        ({"precisions": ("fp16",)}, BundleError, "no audio tower in fp16"),
        ({"python": None}, UsageError, 'python="3.11"'),
        ({"target": "jetson-jp6"}, UsageError, "no code for a Jetson's GPU"),
        ({"runtime_wheel": Path("any.whl"), "extras": ("cpu",)}, UsageError, "leave one of them out"),
        ({"clips": [Path("nowhere.wav")]}, UsageError, "name a recording"),
        ({"wheel": Path(__file__)}, UsageError, "is not a wheel"),
    ],
)
def test_what_cannot_be_packed_is_said_and_nothing_is_written(
    tmp_path: Path, no_pins: Path, changed: dict[str, object], error: type[Exception], said: str
) -> None:
    options = replace(tiny_options(tmp_path / "house", "1.0", no_pins), **changed)  # type: ignore[arg-type]
    with pytest.raises(error, match=said):
        pack(Bundle.open(demo_directory()), tmp_path / "kit.tar.gz", options)
    assert [path.name for path in tmp_path.iterdir()] == ["house"]


def request_of(house: Path, pins: Path, python: str = "3.10") -> WheelRequest:
    """Return a request for the wheels of a folder of wheels for an aarch64 machine."""
    engine = next(house.glob("clapedge-*.whl"))
    target = TARGETS["linux-aarch64"]
    return WheelRequest(target=target, python=python, extras=(), constraints=(pins,), find_links=house, engine=engine)


def test_requirements_count_for_the_target_and_not_for_the_python_that_packs(tmp_path: Path, no_pins: Path) -> None:
    house = tmp_path / "house"
    house.mkdir()
    here = f"here; python_version == '{PYTHON}' and platform_machine == 'x86_64'"
    write_wheel(house, "clapedge", "1.0", requires=("there; python_version < '3.11'", here, "both"))
    for name in ("there", "here", "both", "pip"):
        write_wheel(house, name, "1.0")
    found = collect_wheels(request_of(house, no_pins), tmp_path / "wheels")
    assert [wheel.name for wheel in found] == ["both", "clapedge", "pip", "there"]
    assert {path.name.partition("-")[0] for path in (tmp_path / "wheels").iterdir()} == {wheel.name for wheel in found}


def test_a_pin_of_another_python_is_left_out(tmp_path: Path) -> None:
    house, pins = tmp_path / "house", tmp_path / "pins.txt"
    house.mkdir()
    pins.write_text("thing==1.0 ; python_version < '3.11'\nthing==2.0 ; python_version >= '3.11'  # newer\n")
    write_wheel(house, "clapedge", "1.0", requires=("thing",))
    for version in ("1.0", "2.0"):
        write_wheel(house, "thing", version)
    write_wheel(house, "pip", "1.0")
    for python, version in (("3.10", "1.0"), ("3.12", "2.0")):
        found = collect_wheels(request_of(house, pins, python), tmp_path / python)
        assert {wheel.name: wheel.version for wheel in found}["thing"] == version


def test_an_extra_of_a_requirement_is_followed(tmp_path: Path, no_pins: Path) -> None:
    write_wheel(tmp_path, "clapedge", "1.0", requires=("web[tls]",))
    write_wheel(tmp_path, "web", "1.0", requires=("locks>2; extra == 'tls'", "never; extra == 'other'"))
    wheels = {wheel.name: wheel for wheel in map(Wheel.read, sorted(tmp_path.glob("*.whl")))}
    assert resolve(wheels, request_of(tmp_path, no_pins)) == ({"clapedge", "pip", "web"}, ["locks>2"])


def test_a_wheel_that_does_not_exist_for_the_machine_is_named(tmp_path: Path, no_pins: Path) -> None:
    house = tmp_path / "house"
    house.mkdir()
    write_wheel(house, "clapedge", "1.0", requires=("nowhere>=3",))
    write_wheel(house, "pip", "1.0")
    with pytest.raises(UsageError, match=r"nowhere>=3.*find_links="):
        collect_wheels(request_of(house, no_pins), tmp_path / "wheels")


def test_without_a_checkout_the_wheel_of_the_engine_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheelhouse, "__file__", str(tmp_path / "lib/clapedge/kit/wheelhouse.py"))
    with pytest.raises(UsageError, match='then name it: wheel="FILE"'):
        wheelhouse.engine_wheel(None, tmp_path / "engine")


def installed(wheel: Path, site: Path) -> Path:
    """Install a wheel as pip does, without its scripts; return the directory of its metadata."""
    shutil.unpack_archive(wheel, site, "zip")
    (described,) = site.glob("*.dist-info")
    (described / "INSTALLER").write_text("pip\n")
    with (described / "RECORD").open("a") as record:
        record.write(f"{described.name}/INSTALLER,,\n../../../bin/clapedge,,\n")
    return described


def test_the_wheel_that_was_installed_is_made_anew_of_its_files(
    wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = next((wheelhouse / "own").glob("*.whl"))
    described = installed(original, tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "made").mkdir()
    made = rebuild("clapedge", tmp_path / "made")
    assert made
    assert made.name == original.name
    with zipfile.ZipFile(made) as one, zipfile.ZipFile(original) as other:
        assert one.testzip() is None
        contents = [
            {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}
            for archive in (one, other)
        ]
    assert contents[0] == contents[1]
    (described.parent / "clapedge/__init__.py").write_text("changed")
    with pytest.raises(UsageError, match="install clapedge again"):
        rebuild("clapedge", tmp_path / "made")


def test_a_clapedge_that_was_installed_from_a_wheel_packs_itself(
    wheelhouse: Path, no_pins: Path, tmp_path: Path
) -> None:
    installed(next((wheelhouse / "own").glob("*.whl")), tmp_path / "site")
    words = ["--target", this_machine(), "--python", PYTHON, "--precision", "int8", "-o", str(tmp_path / "kit.tar.gz")]
    words += ["--find-links", str(wheelhouse), "--constraint", str(no_pins)]
    command = [sys.executable, "-m", "clapedge.cli", "bundle", "pack", str(demo_directory()), *words]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "kit.tar.gz") as archive:
        assert any("/wheels/clapedge-" in name for name in archive.getnames())


def test_versions_that_nobody_pinned_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "checkout_constraints", tuple)
    options = replace(tiny_options(tmp_path / "house", "1.0", tmp_path), constraints=(), find_links=None)

    def collect(*_: object) -> None:
        raise UsageError("here it ends")

    monkeypatch.setattr(packing, "collect_wheels", collect)
    with pytest.warns(ClapEdgeWarning, match="no versions are pinned"), pytest.raises(UsageError, match="here it ends"):
        pack(Bundle.open(demo_directory()), tmp_path / "kit.tar.gz", options)


def test_a_jetson_gets_the_runtime_of_its_vendor_and_no_other(tmp_path: Path, no_pins: Path) -> None:
    house = tmp_path / "house"
    options = tiny_options(house, "1.0", no_pins)
    runtime = write_wheel(tmp_path, "onnxruntime_gpu", "1.23.0", requires=("numbers",))
    runtime = runtime.rename(tmp_path / "onnxruntime_gpu-1.23.0-cp310-cp310-linux_aarch64.whl")
    write_wheel(house, "numbers", "1.0")
    made = pack(
        Bundle.open(demo_directory()),
        tmp_path / "kit.tar.gz",
        replace(options, target="jetson-jp6", python=None, runtime_wheel=runtime, precisions=("fp32",)),
    )
    with tarfile.open(made.path) as archive:
        names = {Path(name).name for name in archive.getnames() if "/wheels/" in name}
        (facts,) = (archive.extractfile(name) for name in archive.getnames() if name.endswith("/kit.json"))
        assert facts is not None
        assert json.load(facts)["python"] == "3.10"
    assert {name.partition("-")[0] for name in names} == {"clapedge", "numbers", "onnxruntime_gpu", "pip"}


def test_the_command_prints_the_hash_of_the_archive_as_sha256sum_does_and_replaces_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[KitOptions] = []

    def packed(_: Bundle, target: Path, options: KitOptions) -> Kit:
        asked.append(options)
        return Kit(target, "0" * 64, 2_000_000, 1_000_000, 1_000_000)

    monkeypatch.setattr(packing, "pack", packed)
    words = ["pack", str(demo_directory()), "-o", str(tmp_path / "k.tar.gz"), "--target", "linux-aarch64"]
    done = CliRunner().invoke(bundle_command, [*words, "--python", "3.11", "--precision", "fp32", "--extra", "mqtt"])
    assert done.exit_code == 0
    assert done.stdout == f"{'0' * 64}  {tmp_path}/k.tar.gz\n"
    (tmp_path / "k.tar.gz").touch()
    refused = CliRunner().invoke(bundle_command, [*words, "--python", "3.11"])
    assert isinstance(refused.exception, UsageError)
    assert len(asked) == 1
    assert (asked[0].precisions, asked[0].extras, asked[0].python) == (("fp32",), ("mqtt",), "3.11")
