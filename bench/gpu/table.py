"""The figures of a run as Markdown, for `docs/gpu.md`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def table(report: Mapping[str, Any]) -> str:
    """Return the tables of a report; a section that was not measured is left out."""
    parts = (_machine, _checks, _tower, _end_to_end, _torch)
    return "".join(f"{line}\n" for part in parts for line in part(report))


def _machine(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the figures depend on, in one line."""
    found = report.get("machine", {})
    gpu = found.get("gpu", {}).get("name", "no GPU")
    driver = found.get("nvidia_smi", {}).get("driver_version", "?")
    runtime, python, cores = (found.get(name, "?") for name in ("onnxruntime", "python", "cores"))
    yield f"{gpu}, driver {driver}, ONNX Runtime {runtime}, Python {python}, {cores} cores."
    yield ""


def _checks(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield how many checks hold, and a row for each that does not."""
    checks = report.get("checks", [])
    yield f"{sum(check['holds'] for check in checks)} of {len(checks)} checks hold."
    yield ""
    columns = ("name", "figure", "limit", "note")
    failed = [[check[column] for column in columns] for check in checks if not check["holds"]]
    yield from _rows(("check that fails", *columns[1:]), failed)


def _tower(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the times of the tower, with and without the copies."""
    device = {_key(row): row for row in report.get("device", []) if "device" in row and row["for_cuda_alone"]}
    rows = []
    for row in report.get("tower", []):
        if "with_copies" in row:
            alone = device.get(_key(row), {}).get("device", {}).get("p50_ms", "")
            taken = row["with_copies"]
            labels = [row["variant"], row["batch"], "yes" if row["cuda_graph"] else "no"]
            rows.append([*labels, alone, taken["p50_ms"], taken["p99_ms"], row["clips_per_second"]])
    header = ("variant", "clips", "CUDA graph", "device, ms", "with copies, ms", "99 %, ms", "clips/s")
    yield from _rows(header, rows)
    forms = [
        [
            row["variant"],
            row["batch"],
            "CUDA's" if row["for_cuda_alone"] else "every provider's",
            row["device"]["p50_ms"],
        ]
        for row in report.get("device", [])
        if "device" in row and row["cuda_graph"]
    ]
    yield from _rows(("variant", "clips", "graph of the bundle", "device, ms"), forms)
    columns = ("open_s", "first_clip_ms", "second_clip_ms")
    opened = [
        [row["variant"], row["process"], *(row[name] for name in columns)]
        for row in report.get("start_up", [])
        if "open_s" in row
    ]
    yield from _rows(("variant", "process", "open and capture, s", "first clip, ms", "second clip, ms"), opened)


def _end_to_end(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the times from files to embeddings."""
    rows = [
        [row["variant"], row["recordings"], row.get("p50_ms", ""), row.get("recordings_per_second", "")]
        for row in report.get("end_to_end", [])
        if "not_run" not in row
    ]
    yield from _rows(("variant", "WAV files of 10 s", "ms", "recordings/s"), rows)


def _torch(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the times of the peers."""
    rows = [
        [
            *(row["way"], row["batch"], row["device"]["p50_ms"], row["with_copies"]["p50_ms"]),
            *(row["clips_per_second"], f"{row['cosine_distance']:.1g}"),
        ]
        for row in report.get("torch", [])
        if "device" in row
    ]
    yield from _rows(("PyTorch", "clips", "device, ms", "with copies, ms", "clips/s", "1 - cosine"), rows)


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what a row of the tower and one of the device have in common."""
    return row["variant"], row["batch"], row["cuda_graph"]


def _rows(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield a Markdown table, nothing where it has no rows."""
    if rows:
        yield f"| {' | '.join(header)} |"
        yield "|" + "---|" * len(header)
        yield from (f"| {' | '.join(map(str, row))} |" for row in rows)
        yield ""
