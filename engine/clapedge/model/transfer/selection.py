"""The part of a bundle that a device needs: a valid bundle of fewer files."""

from collections.abc import Sequence

from clapedge.errors import BundleDamagedError
from clapedge.model.bundle import MANIFEST_NAME, Bundle, BundleFile, Variant
from clapedge.model.precision import preferred_variant


def select_towers(bundle: Bundle, *, variants: Sequence[Variant], text: bool) -> list[BundleFile]:
    """Return the files that some variants of the audio tower need; label sets are another matter.

    Args:
        bundle: all of it; no file is read.
        variants: of the audio tower, at least one. The text tower is in the precision of the first where it can be.
        text: whether labels may be any words, which takes the text tower and the tokenizer.

    Raises:
        BundleError: the bundle lacks a part; the message names what it has.
    """
    for variant in variants:
        bundle.file("audio", variant)  # which says what there is, if not this
    kept = [file for role in ("audio", "short") for file in bundle.files(role) if file.variant in variants]
    kept += bundle.files("frontend") if "fp16" in variants else ()
    if text:
        kept += [
            bundle.file("text", preferred_variant(bundle, "text", "cpu", like=variants[0])),
            bundle.file("tokenizer"),
        ]
    return kept


def select_files(bundle: Bundle, *, variants: Sequence[Variant] = (), text: bool = True) -> tuple[BundleFile, ...]:
    """Return the files of a bundle that are to be fetched, in the manifest's order.

    Args:
        bundle: as its manifest describes it; no file is read.
        variants: of the audio tower; none means all of both towers.
        text: whether to take the text tower, where there is one.

    Raises:
        BundleError: it lacks a variant.
        BundleDamagedError: no bundle can have such files.
    """
    manifest = bundle.manifest
    paths = [file.path for file in manifest.files]
    if len(set(paths)) < len(paths) or MANIFEST_NAME in paths or any(file.bytes < 0 for file in manifest.files):
        raise BundleDamagedError(
            f"{bundle.directory} is described by a manifest that contradicts itself; do not use this bundle"
        )
    if variants:
        towers = select_towers(bundle, variants=variants, text=text and bool(bundle.files("text")))
        return tuple(file for file in manifest.files if file in towers or file.role in {"labels", "pool", "document"})
    left_out = set() if text else {"text", "tokenizer"}
    return tuple(file for file in manifest.files if file.role not in left_out)
