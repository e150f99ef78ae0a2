"""The wheels of one machine: pip chooses them, and what it overlooks is found by reading what each asks for.

pip takes wheels for another machine (`--platform`, `--python-version`), but evaluates environment markers for the
Python that runs it (pypa/pip#6117). So the requirements of the wheels are followed here with the markers of the target:
what is missing is asked for by name, what nobody asks for is left out.
"""

import email.parser
import importlib.util
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from clapedge import __version__
from clapedge.errors import UsageError
from clapedge.kit.targets import Target
from clapedge.model.bundle import sha256

MOST_ROUNDS = 5
"""How often pip is asked again for what it overlooked; one round suffices for a marker, more are a circle."""

INSTALLER = "pip"
"""Comes along and installs the others: a bare Debian has no pip, and no ensurepip either."""

CONFLICT = "The conflict is caused by:"
"""What pip says before it explains why no set of versions agrees."""


@dataclass(frozen=True)
class Wanted:
    """Which wheels are wanted.

    Attributes:
        target: the machine.
        python: its Python, such as 3.11.
        extras: extras of clapedge.
        constraints: files that pin versions, as pip reads them.
        find_links: folder of wheels to take instead of those of the package index, or None.
        engine: wheel of clapedge.
        runtime: wheel of ONNX Runtime that a vendor built, or None.
    """

    target: Target
    python: str
    extras: Sequence[str]
    constraints: Sequence[Path]
    find_links: Path | None
    engine: Path
    runtime: Path | None = None


@dataclass(frozen=True)
class Wheel:
    """A wheel and what it says of itself.

    Attributes:
        path: the file.
        metadata: its METADATA (core metadata, RFC 822).
    """

    path: Path
    metadata: Message

    @classmethod
    def read(cls, path: Path) -> "Wheel":
        """Read what a wheel says of itself.

        Raises:
            UsageError: it is no wheel.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                inside = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
                metadata = email.parser.Parser().parsestr(archive.read(inside).decode("utf-8"))
        except StopIteration:
            raise UsageError(f"{path} is no wheel (it has no METADATA); download it again") from None
        except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is no wheel ({error}); download it again") from error
        return cls(path, metadata)

    @property
    def name(self) -> str:
        """Name of the distribution, as wheels' file names spell it (PEP 503)."""
        return canonicalize_name(str(self.metadata["Name"]))

    @property
    def version(self) -> str:
        """Version of the distribution."""
        return str(self.metadata["Version"])


def collect(wanted: Wanted, directory: Path) -> list[Wheel]:
    """Bring every wheel of the engine for a machine into a directory.

    Args:
        wanted: which ones.
        directory: is made, and holds these wheels alone afterwards.

    Returns:
        The wheels, sorted by name; pip's own is among them.

    Raises:
        UsageError: pip finds no set of wheels for the machine; the message ends with its words.
    """
    directory.mkdir(parents=True)
    asked = [f"{wanted.engine}[{','.join(wanted.extras)}]" if wanted.extras else str(wanted.engine), INSTALLER]
    if wanted.runtime is not None:
        asked.append(str(wanted.runtime))
    for _ in range(MOST_ROUNDS):
        _download(wanted, asked, directory)
        wheels = {wheel.name: wheel for wheel in map(Wheel.read, sorted(directory.glob("*.whl")))}
        reached, missing = follow(wheels, wanted)
        if not missing:
            for name in wheels.keys() - reached:
                wheels.pop(name).path.unlink()
            return [wheels[name] for name in sorted(wheels)]
        asked += missing
        for wheel in wheels.values():
            wheel.path.unlink()
    raise UsageError(f"pip finds no wheels that agree for {', '.join(missing)}; pin them with --constraint FILE")


def follow(wheels: Mapping[str, Wheel], wanted: Wanted) -> tuple[set[str], list[str]]:
    """Follow the requirements of the engine with the markers of the target.

    Returns:
        The names that are needed, and the requirements that no wheel fulfils.
    """
    markers = wanted.target.markers(wanted.python)
    reached, missing = {INSTALLER}, []
    waiting = [(Wheel.read(wanted.engine).name, frozenset(wanted.extras))]
    if wanted.runtime is not None:
        waiting.append((Wheel.read(wanted.runtime).name, frozenset()))
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
    """Return the wheels as pip's `--require-hashes` reads them, each with its version and its one hash."""
    lines = [f"{each.name}=={each.version} --hash=sha256:{sha256(each.path)}\n" for each in wheels]
    return "".join(line for line in lines if not line.startswith(f"{INSTALLER}=="))


def own_wheel(given: Path | None, directory: Path) -> Path:
    """Return the wheel of this clapedge: the one given, else built of the checkout that this code is part of.

    Args:
        given: value of `--wheel`.
        directory: where it is built.

    Raises:
        UsageError: the one given is another package's, or there is no checkout to build from.
    """
    if given is not None:
        found = Wheel.read(given)
        if found.name != "clapedge":
            raise UsageError(f"{given} is a wheel of {found.name}; name one of clapedge")
        return given
    checkout = Path(__file__).parents[3]
    if not (checkout / "pyproject.toml").is_file() or not (checkout / "engine" / "clapedge").is_dir():
        raise UsageError(
            "clapedge was installed from a wheel that is no longer there, so a kit cannot hold it; "
            f"download it and name it: pip download --no-deps clapedge=={__version__}, then --wheel FILE"
        )
    directory.mkdir(parents=True)
    _pip(["wheel", "--no-deps", *_isolation(), "--wheel-dir", str(directory), str(checkout)])
    return next(directory.glob("*.whl"))


def own_constraints() -> tuple[Path, ...]:
    """Return the pins of the checkout that this code is part of, if it is part of one."""
    path = Path(__file__).parents[3] / "constraints.txt"
    return (path,) if path.is_file() else ()


def _download(wanted: Wanted, asked: Sequence[str], directory: Path) -> None:
    """Let pip bring wheels into a directory."""
    pins = directory / "constraints.txt"
    pins.write_text("".join(_pins(wanted)), encoding="utf-8")
    source = [] if wanted.find_links is None else ["--no-index", "--find-links", str(wanted.find_links)]
    platforms = [word for tag in wanted.target.platforms for word in ("--platform", tag)]
    python = ["--implementation", "cp", "--python-version", wanted.python]
    options = ["--only-binary=:all:", "--constraint", str(pins), "--dest", str(directory)]
    _pip(["download", *source, *platforms, *python, *options, *asked])
    pins.unlink()


def _pins(wanted: Wanted) -> Iterator[str]:
    """Yield the pins that hold on the target, without the markers that pip would evaluate for another Python."""
    markers = wanted.target.markers(wanted.python)
    given = {Wheel.read(path).name for path in (wanted.engine, wanted.runtime) if path is not None}
    for path in wanted.constraints:
        for line in path.read_text(encoding="utf-8").splitlines():
            text = line.partition("#")[0].strip()
            if not text:
                continue
            requirement = Requirement(text)
            if canonicalize_name(requirement.name) not in given and _applies(requirement.marker, markers, frozenset()):
                yield f"{requirement.name}{requirement.specifier}\n"


def _applies(marker: Marker | None, markers: Mapping[str, str], extras: frozenset[str]) -> bool:
    """Tell whether a requirement with a marker (or None) counts, for any of the extras."""
    return marker is None or any(marker.evaluate({**markers, "extra": extra}) for extra in (extras or {""}))


def _isolation() -> list[str]:
    """Return how pip is told to build with the hatchling that is installed, if one is: that needs no network."""
    return ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []


def _pip(arguments: Sequence[str]) -> None:
    """Run pip as the program that it is."""
    command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check", "--progress-bar", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own Python and pip
    if done.returncode == 0:
        return
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
    _, _, conflict = done.stdout.partition(CONFLICT)
    said += [line.strip() for line in conflict.partition("\n\n")[0].splitlines()]
    raise UsageError(
        f"pip {arguments[0]} failed: {'; '.join(filter(None, said))}; check the network, --python and --constraint, "
        "or name a folder of wheels with --find-links"
    )
