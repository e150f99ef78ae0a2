"""Puts a calibrated tower into its bundle, which stays valid at every moment, and writes the files of a report."""

import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
from onnx import ModelProto, ValueInfoProto, helper

from clapedge.atomic_file import atomic_write, cannot_be_written
from clapedge.errors import BundleError, StorageError
from clapedge.model.bundle import MANIFEST_NAME, Bundle, BundleFile, Tensor, describe, write_manifest
from clapedge.model.proof import PROOF_COSINE, VariantCheck
from clapedge.model.providers import choose
from clapedge.model.towers import AudioTower
from clapedge_calib.html_report import page
from clapedge_calib.markdown_report import markdown
from clapedge_calib.quantize import INT8_TOP
from clapedge_calib.ranges import Range
from clapedge_calib.report import Candidate, Report
from clapedge_calib.short_towers import make_short_towers, short_name

NAMES = ("audio.int8.onnx", "audio.int8.calibrated.onnx")
"""Names that calibrated towers take in turns, so that a file named by the manifest is never overwritten."""

REPORT_SUFFIX = ".report.json"
"""End of the name of the report beside a calibrated tower."""

TABLE_HEADER = "TRT-101601-EntropyCalibration2"
"""First line of a calibration table: the TensorRT for which ONNX Runtime is built, and the calibrator that reads it."""

NOTE = "INT8 audio tower: "
"""Beginning of the manifest's note about a calibration."""


def write_table(ranges: Mapping[str, Range], path: Path) -> None:
    """Write the calibration table of TensorRT 10: a line for each tensor, with its scale as a float32 in hex.

    Raises:
        StorageError: the file cannot be written.
    """
    lines = [TABLE_HEADER]
    for name, values in ranges.items():
        scale = struct.pack(">f", values.symmetric().high / INT8_TOP).hex()
        lines.append(f"{name}: {scale}")
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii")


def write_report(report: Report, directory: Path) -> None:
    """Write report.json, report.md and report.html.

    Raises:
        StorageError: the directory cannot be written to.
    """
    texts = {
        "report.json": msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n",
        "report.md": markdown(report),
        "report.html": page(report),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_be_written(directory, error) from error
    for name, text in texts.items():
        with atomic_write(directory / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def install(bundle: Bundle, model: ModelProto, report: Report) -> BundleFile:
    """Put a calibrated tower and its report into a bundle; the previous INT8 tower is removed last.

    Short INT8 towers go with the previous one, whose parts they were; new ones are made where there are FP32 ones.

    Returns:
        The manifest's entry of the tower.

    Raises:
        BundleError: the bundle cannot be written, or its fp32 tower has changed; it is unchanged.
    """
    fp32 = bundle.file("audio", "fp32")
    bundle = Bundle.open(bundle.directory)  # label sets may have been added meanwhile
    if bundle.file("audio", "fp32") != fp32:
        raise BundleError(f"bundle {bundle.directory} has another fp32 tower by now; calibrate again")
    old = [file for file in bundle.manifest.files if is_replaced(file)]
    name = next(name for name in NAMES if name not in {file.path for file in old})
    new = [name, name.replace(".onnx", REPORT_SUFFIX)]
    new += [short_name(name, file.strips) for file in bundle.files("short") if file.strips is not None]
    try:
        with atomic_write(bundle.directory / name) as temporary:
            temporary.write_bytes(model.SerializeToString(deterministic=True))
        with atomic_write(bundle.directory / new[1]) as temporary:
            temporary.write_bytes(msgspec.json.encode(report))
        entry = _with_proof(bundle, _entry(bundle, name, model, report))
        document = describe(bundle.directory, new[1], role="document")
        short = make_short_towers(bundle, name)
        kept = [file for file in bundle.manifest.files if file not in old]
        notes = [note for note in bundle.manifest.notes if not note.startswith(NOTE)]
        manifest = msgspec.structs.replace(
            bundle.manifest, files=(*_after_audio(kept, entry, *short), document), notes=(*notes, _note(report))
        )
        write_manifest(bundle.directory, manifest)
    except OSError as error:
        fault = error if isinstance(error, StorageError) else cannot_be_written(bundle.directory / MANIFEST_NAME, error)
        raise BundleError(f"bundle {bundle.directory} is as it was: {fault}") from error
    finally:
        _remove(bundle.directory, [*new, *(file.path for file in old)])
    return entry


def _entry(bundle: Bundle, name: str, model: ModelProto, report: Report) -> BundleFile:
    """Describe a calibrated tower as a manifest does."""
    return describe(
        bundle.directory,
        name,
        role="audio",
        variant="int8",
        opset=next(each.version for each in model.opset_import if not each.domain),
        inputs=_tensors(model.graph.input),
        outputs=_tensors(model.graph.output),
        checks=_checks(next(each for each in report.candidates if each.name == report.chosen)),
    )


def _with_proof(bundle: Bundle, entry: BundleFile) -> BundleFile:
    """Return the entry of a tower with how near it comes to the bundle's proof.

    It was made for the sounds of a device, and accepted by them: the inputs of a proof may be further away.
    """
    found = VariantCheck(bundle, entry, choose("cpu")).measure_audio(AudioTower(bundle.directory / entry.path))
    return (
        entry if found is None else msgspec.structs.replace(entry, checks={**entry.checks, PROOF_COSINE: found.cosine})
    )


def _remove(directory: Path, names: Iterable[str]) -> None:
    """Remove the files that the manifest does not name: the old ones, or after an error the new ones."""
    named = {file.path for file in Bundle.open(directory).manifest.files}
    for name in names:
        if name not in named:
            with suppress(OSError):  # a file that nothing names does no harm
                (directory / name).unlink(missing_ok=True)


def _checks(candidate: Candidate) -> dict[str, float]:
    """Return the figures that the manifest keeps of a variant."""
    figures = {
        "mean_cosine": candidate.cosine_mean,
        "min_cosine": candidate.cosine_min,
        "int8_layers": float(candidate.int8_layers),
        "latency_ms": candidate.latency_ms,
    }
    if candidate.drop is not None:
        figures["drop_points"] = candidate.drop
    if candidate.evaluation is not None:
        figures["top1"] = candidate.evaluation.top1.value
    return figures


def _note(report: Report) -> str:
    """Return the manifest's note on the INT8 tower."""
    return f"{NOTE}calibrated for {report.target} with {report.calibration_recordings} recordings; {report.verdict}"


def is_replaced(file: BundleFile) -> bool:
    """Return whether a file of a bundle is an INT8 audio tower, short ones too, or a report of an earlier calibration.

    Short towers read their weights from the file of the whole one.
    """
    if file.role == "document":
        return file.path.endswith(REPORT_SUFFIX)
    return file.role in {"audio", "short"} and file.variant == "int8"


def _after_audio(files: list[BundleFile], *entries: BundleFile) -> list[BundleFile]:
    """Return the files with audio towers behind the others."""
    last = max(place for place, file in enumerate(files) if file.role == "audio")
    return [*files[: last + 1], *entries, *files[last + 1 :]]


def _tensors(values: Iterable[ValueInfoProto]) -> tuple[Tensor, ...]:
    """Describe inputs or outputs as a manifest does."""
    return tuple(
        Tensor(
            name=value.name,
            dtype=helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            shape=tuple(size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim),
        )
        for value in values
    )
