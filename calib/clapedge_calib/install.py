"""A calibrated tower into its bundle, which is whole at every moment; and the files of a report."""

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from onnx import ModelProto, ValueInfoProto, helper

from clapedge.bundle import Bundle, BundleFile, Tensor, describe, write_manifest
from clapedge.errors import BundleError, UsageError
from clapedge_calib.page import page
from clapedge_calib.quantize import INT8_TOP
from clapedge_calib.ranges import Range
from clapedge_calib.report import Candidate, Report, markdown

NAMES = ("audio.int8.onnx", "audio.int8.calibrated.onnx")
"""Names that calibrated towers take in turns: the file that the manifest names is never written over."""

REPORT_SUFFIX = ".report.json"
"""End of the name of the report beside a calibrated tower."""

TABLE_HEADER = "TRT-101601-EntropyCalibration2"
"""First line of a table: the TensorRT for which ONNX Runtime is built, and the calibrator that reads it."""

NOTE = "INT8 audio tower: "
"""How the manifest's note about a calibration begins."""


def write_table(ranges: Mapping[str, Range], path: Path) -> None:
    """Write the calibration table that TensorRT 10 reads: a line a tensor, its scale as the bits of a float32 in hex.

    Raises:
        UsageError: the file cannot be written.
    """
    lines = [TABLE_HEADER]
    for name, values in ranges.items():
        scale = struct.pack(">f", values.symmetric().high / INT8_TOP).hex()
        lines.append(f"{name}: {scale}")
    try:
        path.write_text("\n".join(lines) + "\n", encoding="ascii")
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); name another file") from error


def write_report(report: Report, directory: Path) -> None:
    """Write report.json, report.md and report.html.

    Raises:
        UsageError: the directory cannot be written to.
    """
    texts = {
        "report.json": msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n",
        "report.md": markdown(report),
        "report.html": page(report),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            temporary = directory / f"{name}.tmp"
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(directory / name)
    except OSError as error:
        raise UsageError(
            f"{directory} cannot be written ({error.strerror}); make room, or name another with --report"
        ) from error


def install(bundle: Bundle, model: ModelProto, report: Report) -> BundleFile:
    """Put a calibrated tower and its report into a bundle; the INT8 tower that was there is removed last.

    Returns:
        The manifest's entry of the tower.

    Raises:
        BundleError: the bundle cannot be written; it is as it was.
    """
    old = [file for file in bundle.manifest.files if _is_replaced(file)]
    name = next(name for name in NAMES if name not in {file.path for file in old})
    document_name = name.replace(".onnx", REPORT_SUFFIX)
    chosen = next(each for each in report.candidates if each.name == report.chosen)
    try:
        _write(bundle.directory / name, model.SerializeToString(deterministic=True))
        _write(bundle.directory / document_name, msgspec.json.encode(report))
        entry = describe(
            bundle.directory,
            name,
            role="audio",
            variant="int8",
            opset=next(each.version for each in model.opset_import if not each.domain),
            inputs=_tensors(model.graph.input),
            outputs=_tensors(model.graph.output),
            checks=checks(chosen),
        )
        document = describe(bundle.directory, document_name, role="document")
        kept = [file for file in bundle.manifest.files if file not in old]
        notes = [note for note in bundle.manifest.notes if not note.startswith(NOTE)]
        manifest = msgspec.structs.replace(
            bundle.manifest, files=(*_after_audio(kept, entry), document), notes=(*notes, _note(report))
        )
        write_manifest(bundle.directory, manifest)
        for file in old:
            (bundle.directory / file.path).unlink(missing_ok=True)
    except OSError as error:
        (bundle.directory / f"{name}.tmp").unlink(missing_ok=True)
        raise BundleError(
            f"bundle {bundle.directory} cannot be written ({error.strerror}) and is as it was; make room, or check its "
            "permissions"
        ) from error
    return entry


def checks(candidate: Candidate) -> dict[str, float]:
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
    """Say in the manifest what the INT8 tower was made for."""
    return f"{NOTE}calibrated for {report.target} with {report.calibration_recordings} recordings; {report.verdict}"


def _is_replaced(file: BundleFile) -> bool:
    """Tell whether a file of a bundle is an INT8 audio tower, or the report of an earlier calibration."""
    if file.role == "document":
        return file.path.endswith(REPORT_SUFFIX)
    return file.role == "audio" and file.variant == "int8"


def _write(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _after_audio(files: list[BundleFile], entry: BundleFile) -> list[BundleFile]:
    """Put an audio tower behind the others."""
    last = max(place for place, file in enumerate(files) if file.role == "audio")
    return [*files[: last + 1], entry, *files[last + 1 :]]


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
