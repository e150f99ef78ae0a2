"""The part of a bundle that a device gets: some variants of the audio tower, some label sets, rarely the text tower."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from clapedge.engine import Engine
from clapedge.errors import BundleError, LabelError, UsageError
from clapedge.labels import find_file
from clapedge.labels.loader import load_labels
from clapedge.model.bundle import Bundle, BundleFile, Variant, describe, write_manifest
from clapedge.model.precision import preferred_variant
from clapedge.model.transfer.selection import select_towers

DEMO_CLIPS = Path(__file__).parents[1] / "demo_clips"
"""Recordings that every kit can score, and the labels that fit them."""

CLIP_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
"""Characters of the names of packed clips, so that every tool on every device can list them."""


def copy_subset(
    bundle: Bundle, directory: Path, *, precisions: Sequence[Variant], labels: Sequence[str], text: bool
) -> Bundle:
    """Copy the part of a bundle that a device uses.

    Args:
        bundle: the source; every file is checked.
        directory: is made.
        precisions: variants of the audio tower.
        labels: label sets: names of stored ones, or files and names of shipped ones, which are embedded now. Empty:
            all stored ones, else the one of the demo clips.
        text: whether to include the text tower, for labels that are chosen later.

    Raises:
        BundleError: it lacks a requested part.
        LabelError: a label file is not understood, or two sets have the same name.
    """
    directory.mkdir(parents=True)
    kept = select_towers(bundle, variants=precisions, text=text)
    kept += bundle.files("pool")
    held = {Path(file.path).stem: file for file in bundle.files("labels")}
    embedded = [name for name in labels if name not in held]
    kept += [held[name] for name in (dict.fromkeys(labels) if labels else held) if name in held]
    for file in kept:
        target = directory / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path(file), target)
    if not labels and not held and bundle.files("text"):
        embedded = [str(DEMO_CLIPS / "labels.toml")]
    made = _embed(bundle, directory, embedded, taken={file.path for file in kept}) if embedded else []
    write_manifest(directory, msgspec.structs.replace(bundle.manifest, files=(*kept, *made)))
    return Bundle.open(directory)


def _embed(bundle: Bundle, directory: Path, files: Sequence[str], *, taken: set[str]) -> list[BundleFile]:
    """Embed label files with the whole bundle's text tower, and return their entries."""
    (directory / "labels").mkdir(exist_ok=True)
    made = []
    with Engine.load(bundle.directory, provider="cpu") as engine:
        for name in files:
            path = find_file(name)
            stem = "demo-clips" if path.parent == DEMO_CLIPS else path.stem
            relative = f"labels/{stem}.npz"
            if relative in taken:
                raise LabelError(f"two label sets would have the name {stem}; rename the file {name}")
            engine.embed_labels(load_labels(path)).save(directory / relative)
            taken.add(relative)
            made.append(describe(directory, relative, role="labels"))
    return made


def copy_clips(clips: Sequence[Path], directory: Path) -> list[Path]:
    """Copy the clips of the self-test; without any, those of the demo.

    Raises:
        UsageError: one cannot be read, or two have the same name.
    """
    directory.mkdir(parents=True)
    copied = []
    for clip in clips or sorted(DEMO_CLIPS.glob("*.flac")):
        name = "".join(letter if letter in CLIP_NAME_CHARACTERS else "_" for letter in clip.name)
        target = directory / name
        if target.exists():
            raise UsageError(f"two clips would have the name {name}; rename {clip}")
        try:
            shutil.copyfile(clip, target)
        except OSError as error:
            raise UsageError(f"{clip} cannot be read ({error.strerror}); name a recording") from error
        copied.append(target)
    return copied


def default_precision(bundle: Bundle, *, gpu: bool) -> Variant:
    """Return the default variant of the audio tower for a device: what `auto` means there.

    Raises:
        BundleError: the bundle has none that runs there.
    """
    try:
        return preferred_variant(bundle, "audio", "cuda" if gpu else "cpu")
    except BundleError as error:
        raise BundleError(f"{error}, or name one of its variants") from error
