"""A bundle: a directory that holds an exported model, described and guarded by its `manifest.json`.

Files are plain (never symlinks), named relative to the directory, and checked by size and SHA-256 before they are used.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, TypeVar

import msgspec

from clapedge.errors import BundleDamagedError, BundleError, BundleNotFoundError
from clapedge.features.front_end import Count, FrontEnd
from clapedge.features.strips import Strips, strip_frames
from clapedge.model.space import clip_space
from clapedge.validation import describe_mismatch

Used = TypeVar("Used")

SCHEMA_VERSION = 1
"""Version of the manifest's layout; a bundle with a newer one is refused."""

MANIFEST_NAME = "manifest.json"
BUNDLE_VARIABLE = "CLAPEDGE_BUNDLE"
"""Environment variable that names the default bundle."""

Role = Literal["audio", "short", "frontend", "text", "tokenizer", "labels", "pool", "document"]
Variant = Literal["fp32", "fp16", "int8"]
Weights = Literal["pretrained", "random", "demo"]


class Tensor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Name, element type and shape of a graph's input or output; a string in the shape is a symbolic size."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class BundleFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One file of a bundle, as its manifest describes it."""

    path: str
    role: Role
    bytes: int
    sha256: str
    variant: Variant | None = None
    providers: tuple[str, ...] = ()
    """Providers that the file is for alone, as operators of it are; none means every one that runs its precision."""
    strips: Strips | None = None
    """Strips that a short tower looks at, see `clapedge.features.strips`."""
    opset: int | None = None
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    checks: dict[str, float] = {}
    """Parity or accuracy figures measured when the file was made."""

    def is_tower(self, variant: Variant, strips: Strips | None = None) -> bool:
        """Return whether it is the audio tower of a variant, whole or of strips."""
        role = "audio" if strips is None else "short"
        return (self.role, self.variant, self.strips) == (role, variant, strips)


class Proof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the model gives in float32 for inputs that every machine can make, see `clapedge.model.proof`."""

    formula: int
    """Number of the formula by which the inputs are made."""
    audio: str
    """Embeddings of the recordings: (N, E) little-endian float32 in base64."""
    text: str | None = None
    """Embeddings of the prompts, likewise."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle is and holds."""

    schema: int = SCHEMA_VERSION
    model: str
    revision: str | None
    licence: str
    weights: Weights
    front_end: FrontEnd
    embedding_size: Count
    logit_scale: Annotated[float, msgspec.Meta(gt=0)]
    """`exp(logit_scale_a)` of the checkpoint: similarities are multiplied by it before the softmax."""
    max_tokens: Annotated[int, msgspec.Meta(ge=3)]
    """Longest prompt that the text tower reads, special tokens included."""
    text_tower: str | None = None
    """SHA-256 of the text tower's FP32 file, present in the bundle or not: it names the space of label embeddings."""
    spaces: dict[Variant, str] = {}
    """Name of the embedding space of each variant of the audio tower, see `clapedge.model.space`; always computed."""
    files: tuple[BundleFile, ...]
    proof: Proof | None = None
    """By which variants prove themselves where they run; None in bundles that were exported without."""
    made_with: dict[str, str] = {}
    """Versions of the packages that made it."""
    notes: tuple[str, ...] = ()
    """Sentences that a user should know about this model."""

    def __post_init__(self) -> None:
        """Name the embedding spaces, whatever was given: a manifest of an older version does not, one may be wrong."""
        present = sorted({file.variant for file in self.files if file.role == "audio" and file.variant is not None})
        spaces = {variant: self.space(variant) for variant in present}
        msgspec.structs.force_setattr(self, "spaces", spaces)

    def space(self, variant: Variant, strips: Strips | None = None) -> str:
        """Return the name of the embedding space of a variant; a short tower, looking at strips, has one of its own."""
        tower = self.tower_digest(variant, strips)
        return clip_space(text_tower=self.text_tower, audio_tower=tower, front_end=self.front_end, variant=variant)

    def tower_digest(self, variant: Variant, strips: Strips | None = None) -> str:
        """Return the SHA-256 of a tower that is present: of its file, or of both files of a short one.

        A short tower's graph is one, its weights lie in the whole tower's file.
        """
        whole = next(
            file.sha256 for file in sorted(self.files, key=lambda file: len(file.providers)) if file.is_tower(variant)
        )
        if strips is None:
            return whole
        short = next(file.sha256 for file in self.files if file.is_tower(variant, strips))
        return hashlib.sha256(f"{whole} {short}".encode()).hexdigest()

    @property
    def caution(self) -> str | None:
        """A sentence against taking scores for what they are not, or None for pretrained weights."""
        return {
            "random": f"the weights of {self.model} are random: its scores mean nothing",
            "demo": f"{self.model} is the built-in demo model: it knows a few dozen sounds; "
            "export a pretrained model for real use",
        }.get(self.weights)


class Bundle:
    """An opened bundle: its directory and its manifest. Files are checked when they are first asked for."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        """Join a directory and the manifest read from it; use `Bundle.open`."""
        self.directory = directory
        self.manifest = manifest

    @classmethod
    def open(cls, directory: str | os.PathLike[str] | None = None) -> "Bundle":
        """Read the manifest of a bundle.

        Args:
            directory: the bundle, see `locate`.

        Raises:
            BundleNotFoundError: there is no bundle.
            BundleDamagedError: its manifest cannot be understood.
        """
        path = locate(directory)
        manifest_path = path / MANIFEST_NAME
        if manifest_path.is_symlink() or (manifest_path.exists() and not manifest_path.is_file()):
            raise BundleDamagedError(
                f"{manifest_path} is no plain file, which a bundle holds alone; copy the bundle again"
            )
        try:
            raw = manifest_path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            named = "" if directory is not None else f", which {BUNDLE_VARIABLE} names,"
            found = "is no bundle (it has no manifest.json)" if path.exists() else "does not exist"
            raise BundleNotFoundError(
                f"bundle {path}{named} {found}; make one with: clapedge export MODEL -o {path}"
            ) from None
        except OSError as error:
            raise BundleError(f"{manifest_path} cannot be read ({error.strerror}); check its permissions") from error
        return cls(path, parse_manifest(raw, manifest_path))

    def files(self, role: Role) -> tuple[BundleFile, ...]:
        """Return the files of one role, in the manifest's order."""
        return tuple(file for file in self.manifest.files if file.role == role)

    def variants(self, role: Role) -> tuple[Variant, ...]:
        """Return the precisions in which a tower (`audio` or `text`) is present."""
        return tuple(dict.fromkeys(file.variant for file in self.files(role) if file.variant is not None))

    @property
    def label_sets(self) -> dict[str, BundleFile]:
        """The embedded label sets (`labels/NAME.npz`), by name."""
        return {PurePosixPath(file.path).stem: file for file in self.files("labels")}

    def file(self, role: Role, variant: Variant | None = None, *, provider: str | None = None) -> BundleFile:
        """Return the one file of a role and variant.

        Args:
            role: what it is for.
            variant: precision of a tower.
            provider: where it is to run; a file for this provider alone comes before the one for all. None means the
                one for all.

        Raises:
            BundleError: the bundle does not hold it; the message names what it does hold.
        """
        found = [file for file in self.files(role) if file.variant == variant]
        for file in sorted(found, key=lambda file: not file.providers):
            if not file.providers or provider in file.providers:
                return file
        wanted = f"{role} tower in {variant}" if variant else f"{role} file"
        present = ", ".join(file.path for file in self.files(role)) or "none"
        raise BundleError(
            f"bundle {self.directory} holds no {wanted} (present: {present}); export or pull it again with that part"
        )

    def read(self, file: BundleFile) -> bytes:
        """Return the checked content of a small file of the bundle."""
        return self.path(file).read_bytes()

    def path(self, file: BundleFile) -> Path:
        """Return the path of a file after checking that it is the one that the manifest describes.

        Raises:
            BundleDamagedError: the file is missing, a symlink, or not what the manifest says.
        """
        return self.opened(file, lambda path: path)

    def opened(self, file: BundleFile, use: Callable[[Path], Used]) -> Used:
        """Return what `use` makes of a file's path, while the content is checked beside it.

        Opening a session and hashing its file take turns at nothing, so that a start does not wait for their sum.

        Raises:
            BundleDamagedError: the file is missing, a symlink, or not what the manifest says; whatever `use` came to.
        """
        path = self.directory / file.path
        _refuse(path, _misfit(self.directory, file))
        with ThreadPoolExecutor(1) as pool:
            fault = pool.submit(_alteration, path, file)
            try:
                return use(path)
            finally:
                _refuse(path, fault.result())

    def faults(self) -> list[str]:
        """Check every file and return one sentence for each that is not as the manifest says."""
        return [
            f"{self.directory / file.path} {fault}"
            for file in self.manifest.files
            if (fault := fault_of(self.directory, file))
        ]


def locate(name: str | os.PathLike[str] | None) -> Path:
    """Return the directory of a bundle.

    Args:
        name: a directory, or `hf:ORG/NAME` for a repository of the hub, which is fetched the first time that it is
            used; None means the environment variable `CLAPEDGE_BUNDLE`, else the built-in demo model.

    Raises:
        BundleError: a repository has not been fetched yet, and cannot be had.
    """
    path = Path(name) if name is not None else default_directory()
    if os.fspath(path).startswith("hf:"):
        from clapedge.model.transfer.pull import kept_copy

        return kept_copy(os.fspath(path))
    return path


def default_directory() -> Path:
    """Return the bundle that is used where none is named: `CLAPEDGE_BUNDLE`, else the built-in demo model."""
    named = os.environ.get(BUNDLE_VARIABLE)
    return Path(named) if named else demo_directory()


def demo_directory() -> Path:
    """Return the directory of the demo model that is part of this package."""
    return Path(__file__).parents[1] / "demo_model"


def describe(directory: Path, relative: str, **facts: object) -> BundleFile:
    """Return the manifest's entry of a file: its size and SHA-256, and the `facts` (fields of `BundleFile`)."""
    path = directory / relative
    entry = {"path": relative, "bytes": path.stat().st_size, "sha256": sha256(path), **facts}
    return msgspec.convert(entry, BundleFile)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `manifest.json` (UTF-8, indented, sorted as declared); it appears whole or not at all."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    temporary = directory / (MANIFEST_NAME + ".tmp")
    try:
        temporary.write_bytes(text)
        temporary.replace(directory / MANIFEST_NAME)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def parse_manifest(raw: bytes, path: Path) -> Manifest:
    """Decode a manifest.

    Args:
        raw: the JSON.
        path: where it was read, for messages.

    Raises:
        BundleDamagedError: it is not understood, or contradicts itself.
        BundleError: it is of a newer layout.
    """
    try:
        version = msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).get("schema")
        if version is not None and msgspec.json.decode(version, type=int) > SCHEMA_VERSION:
            raise BundleError(
                f"{path} has layout {bytes(version).decode()}, newer than this clapedge reads ({SCHEMA_VERSION}); "
                "upgrade clapedge, or export the bundle with this version"
            )
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        reason = describe_mismatch(error) if isinstance(error, msgspec.MsgspecError) else error
        raise BundleDamagedError(f"{path} is damaged ({reason}); copy the bundle again, or export it again") from error
    _check_paths(manifest.files, path)
    _check_shapes(manifest, path)
    return manifest


def _check_paths(files: Iterable[BundleFile], manifest_path: Path) -> None:
    """Refuse file names that lead out of the bundle: a bundle may come from a stranger."""
    for file in files:
        parts = PurePosixPath(file.path).parts
        if not parts or file.path.startswith("/") or set("\\:\0") & set(file.path) or ".." in parts:
            raise BundleDamagedError(
                f"{manifest_path} names the file {file.path!r}, which leads out of the bundle; do not use this bundle"
            )


def _check_shapes(manifest: Manifest, manifest_path: Path) -> None:
    """Refuse audio towers that do not take what the front end makes: scoring would fail, and not say why."""
    front_end = manifest.front_end
    for file in manifest.files:
        if (file.role == "short") != (file.strips is not None):
            raise BundleDamagedError(
                f"{manifest_path} contradicts itself: {file.path} is a {file.role} file of "
                f"{file.strips or 'no'} strips; copy the bundle again, or export it again"
            )
        frames = len(strip_frames(file.strips, front_end.clip_frames)) if file.strips else front_end.clip_frames
        made = (1 if file.strips else front_end.channels, frames, front_end.n_mels)
        for tensor in file.inputs if file.role in {"audio", "short"} else ():
            if tensor.name == "input_features" and tensor.shape[1:] != made:
                raise BundleDamagedError(
                    f"{manifest_path} contradicts itself: {file.path} takes {tensor.shape[1:]}, "
                    f"the front end makes {made}; copy the bundle again, or export it again"
                )


def _refuse(path: Path, fault: str | None) -> None:
    """Raise what is wrong with a file, if anything is."""
    if fault:
        raise BundleDamagedError(f"{path} {fault}; copy the bundle again, or export it again")


def fault_of(directory: Path, file: BundleFile) -> str | None:
    """Return what is wrong with a file of a bundle, as the rest of a sentence, or None."""
    return _misfit(directory, file) or _alteration(directory / file.path, file)


def _misfit(directory: Path, file: BundleFile) -> str | None:
    """Return what can be seen to be wrong with a file without reading it."""
    path = directory / file.path
    folders = [directory / folder for folder in list(PurePosixPath(file.path).parents)[:-1]]
    if any(place.is_symlink() for place in (path, *folders)) or (path.exists() and not path.is_file()):
        return "is a symlink, behind a symlink or no file, which a bundle never holds"
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if size == file.bytes else f"is damaged: {size} bytes where the manifest says {file.bytes}"


def _alteration(path: Path, file: BundleFile) -> str | None:
    """Return how the content of a file differs from what the manifest says."""
    try:
        return None if sha256(path) == file.sha256 else "is damaged: its SHA-256 is not the one in the manifest"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
