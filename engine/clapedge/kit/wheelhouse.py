"""The wheels of one machine: pip chooses them, and what it overlooks is found by reading their requirements.

pip takes wheels for another machine (`--platform`, `--python-version`), but evaluates environment markers for the
Python that runs it (pypa/pip#6117). So the requirements of the wheels are resolved here with the markers of the target:
missing wheels are requested by name, unneeded ones are left out.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from clapedge import __version__
from clapedge.errors import UsageError
from clapedge.kit.targets import Target
from clapedge.kit.wheel import Wheel, rebuild
from clapedge.model.bundle import sha256

MAX_ROUNDS = 5
"""How often pip is asked again for what it overlooked; one round suffices for a marker, more are a cycle."""

INSTALLER = "pip"
"""Is part of every kit and installs the others: a bare Debian has no pip, and no ensurepip either."""

CONFLICT = "The conflict is caused by:"
"""How pip begins to explain why no set of versions is consistent."""


@dataclass(frozen=True)
class WheelRequest:
    """Which wheels a kit needs.

    Attributes:
        target: the machine.
        python: its Python, such as 3.11.
        extras: extras of clapedge.
        constraints: files that pin versions, as pip reads them.
        find_links: folder of wheels to take instead of those of the package index, or None.
        engine: wheel of clapedge.
        runtime: vendor-built wheel of ONNX Runtime, or None.
    """

    target: Target
    python: str
    extras: Sequence[str]
    constraints: Sequence[Path]
    find_links: Path | None
    engine: Path
    runtime: Path | None = None


def collect_wheels(request: WheelRequest, directory: Path) -> list[Wheel]:
    """Download every wheel that the engine needs on a machine.

    Args:
        request: which ones.
        directory: is made, and contains only these wheels afterwards.

    Returns:
        The wheels, sorted by name, pip's own included.

    Raises:
        UsageError: pip finds no set of wheels for the machine; the message quotes it.
    """
    directory.mkdir(parents=True)
    asked = [f"{request.engine}[{','.join(request.extras)}]" if request.extras else str(request.engine), INSTALLER]
    if request.runtime is not None:
        asked.append(str(request.runtime))
    for _ in range(MAX_ROUNDS):
        _download(request, asked, directory)
        wheels = {wheel.name: wheel for wheel in map(Wheel.read, sorted(directory.glob("*.whl")))}
        reached, missing = resolve(wheels, request)
        if not missing:
            for name in wheels.keys() - reached:
                wheels.pop(name).path.unlink()
            return [wheels[name] for name in sorted(wheels)]
        asked += missing
        for wheel in wheels.values():
            wheel.path.unlink()
    raise UsageError(f"pip finds no consistent wheels for {', '.join(missing)}; pin them in a file of constraints")


def resolve(wheels: Mapping[str, Wheel], request: WheelRequest) -> tuple[set[str], list[str]]:
    """Resolve the requirements of the engine with the markers of the target.

    Returns:
        The names of the needed wheels, and the requirements that no wheel satisfies.
    """
    markers = request.target.markers(request.python)
    reached, missing = {INSTALLER}, []
    waiting = [(Wheel.read(request.engine).name, frozenset(request.extras))]
    if request.runtime is not None:
        waiting.append((Wheel.read(request.runtime).name, frozenset()))
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        reached.add(name)
        for text in wheels[name].metadata.get_all("Requires-Dist", []) if name in wheels else []:
            requirement = Requirement(text)
            if not _applies(requirement.marker, markers, extras):
                continue
            found = wheels.get(canonicalize_name(requirement.name))
            if found is None or not requirement.specifier.contains(found.version, prereleases=True):
                requirement.marker = None
                missing.append(str(requirement))
                continue
            follower = (found.name, frozenset(requirement.extras))
            if follower not in seen:
                seen.add(follower)
                waiting.append(follower)
    return reached, sorted(set(missing))


def requirements_of(wheels: Iterable[Wheel]) -> str:
    """Return the requirements file for pip's `--require-hashes`: each wheel with its version and its hash."""
    lines = [f"{each.name}=={each.version} --hash=sha256:{sha256(each.path)}\n" for each in wheels]
    return "".join(line for line in lines if not line.startswith(f"{INSTALLER}=="))


def engine_wheel(given: Path | None, directory: Path) -> Path:
    """Return the wheel of clapedge: the one given, else built from the checkout that this code is part of, or rebuilt.

    Args:
        given: a wheel, or None.
        directory: where it is built.

    Raises:
        UsageError: it is the wheel of another package, or there is neither a checkout nor an installed wheel.
    """
    if given is not None:
        found = Wheel.read(given)
        if found.name != "clapedge":
            raise UsageError(f"{given} is a wheel of {found.name}; name one of clapedge")
        return given
    checkout = Path(__file__).parents[3]
    directory.mkdir(parents=True)
    if not (checkout / "pyproject.toml").is_file() or not (checkout / "engine" / "clapedge").is_dir():
        if rebuilt := rebuild("clapedge", directory):
            return rebuilt
        raise UsageError(
            "clapedge was not installed from a wheel, and its checkout is not here, so a kit cannot contain it; build "
            f'that of version {__version__} where the checkout is (pip wheel --no-deps .), then name it: wheel="FILE"'
        )
    _pip(["wheel", "--no-deps", *_isolation(), "--wheel-dir", str(directory), str(checkout)])
    return next(directory.glob("*.whl"))


def checkout_constraints() -> tuple[Path, ...]:
    """Return the pins of the checkout that this code is part of, if it is part of one."""
    path = Path(__file__).parents[3] / "constraints.txt"
    return (path,) if path.is_file() else ()


def _download(request: WheelRequest, asked: Sequence[str], directory: Path) -> None:
    """Download wheels into a directory with pip."""
    pins = directory / "constraints.txt"
    pins.write_text("".join(_pins(request)), encoding="utf-8")
    source = [] if request.find_links is None else ["--no-index", "--find-links", str(request.find_links)]
    platforms = [word for tag in request.target.platforms for word in ("--platform", tag)]
    python = ["--implementation", "cp", "--python-version", request.python]
    options = ["--only-binary=:all:", "--constraint", str(pins), "--dest", str(directory)]
    _pip(["download", *source, *platforms, *python, *options, *asked])
    pins.unlink()


def _pins(request: WheelRequest) -> Iterator[str]:
    """Yield the pins that apply to the target, without markers, which pip would evaluate for its own Python."""
    markers = request.target.markers(request.python)
    given = {Wheel.read(path).name for path in (request.engine, request.runtime) if path is not None}
    for path in request.constraints:
        for line in path.read_text(encoding="utf-8").splitlines():
            text = line.partition("#")[0].strip()
            if not text:
                continue
            requirement = Requirement(text)
            if canonicalize_name(requirement.name) not in given and _applies(requirement.marker, markers, frozenset()):
                yield f"{requirement.name}{requirement.specifier}\n"


def _applies(marker: Marker | None, markers: Mapping[str, str], extras: frozenset[str]) -> bool:
    """Return whether a requirement with a marker (or None) applies, for any of the extras."""
    return marker is None or any(marker.evaluate({**markers, "extra": extra}) for extra in (extras or {""}))


def _isolation() -> list[str]:
    """Return pip's option to build with the installed hatchling, if there is one: that needs no network."""
    return ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []


def _pip(arguments: Sequence[str]) -> None:
    """Run pip as a program of its own."""
    if importlib.util.find_spec("pip") is None:
        raise UsageError("pip is not installed here, which collects the wheels; run: python -m ensurepip")
    command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check", "--progress-bar", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own Python and pip
    if done.returncode == 0:
        return
    messages = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
    _, _, conflict = done.stdout.partition(CONFLICT)
    messages += [line.strip() for line in conflict.partition("\n\n")[0].splitlines()]
    raise UsageError(
        f"pip {arguments[0]} failed: {'; '.join(filter(None, messages))}; check the network, the version of Python and "
        'the constraints, or name a folder of wheels: find_links="FOLDER"'
    )
