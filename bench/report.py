"""The figures of `bench_peers.py` as tables in docs/performance.md and as a plot; none is typed by hand."""

from pathlib import Path
from typing import Any, TypeAlias

from material import SMALL
from peers import EAGER, OPENVINO, OPENVINO_BF16, OPENVINO_INT8, OPENVINO_PLAIN, OURS, OURS_INT8, PIPELINE, PLAIN_GRAPH
from turns import CALM_SECONDS, STEADY_CALLS, WARMING_CALLS

Results: TypeAlias = dict[str, Any]

BEGIN, END = "<!-- figures of bench_peers.py: begin -->", "<!-- figures of bench_peers.py: end -->"
RATE = 1.6
"""Aim: files per second side by side, as a multiple of one after the other."""

OWN_COLOUR, PEER_COLOUR = "#1b6ca8", "#b8bec6"


def write_report(results: Results, docs: Path) -> None:
    """Replace the tables between the marks in performance.md, and the plot beside it."""
    page = docs / "performance.md"
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    parts = [_about(results), _targets(results), _towers(results), _scorers(results), _processes(results)]
    unfinished = page.with_suffix(".tmp")
    unfinished.write_text(before + "\n\n".join((BEGIN, *parts, END)) + after, encoding="utf-8")
    unfinished.replace(page)
    _plot(results, docs / "performance.svg")


def _about(results: Results) -> str:
    """Say where the figures come from."""
    about = results["about"]
    packages = ", ".join(f"{name} {about[name]}" for name in about if name not in {"processor", "cores", "python"})
    return (
        f"Measured on {about['processor']}, {about['cores']} cores, Python {about['python']}, {packages}. "
        f"Medians of {results['rounds']} turns of {STEADY_CALLS} calls on 4 threads, half as many on 1; milliseconds. "
        f"A turn begins with {WARMING_CALLS} calls that are not among them; the first, after a pause of at least "
        f"{CALM_SECONDS:g} s, is the column “after a pause”."
    )


def _targets(results: Results) -> str:
    """Tabulate what was aimed at and what was reached."""
    tower, file = results["tower, threads 4"], results["file, threads 4"]
    own, whole = tower[OURS_INT8], results["processes"]
    rivals = [name for name in (OPENVINO_PLAIN, OPENVINO, OPENVINO_BF16, OPENVINO_INT8) if name in tower]
    as_good = [tower[name]["median_ms"] for name in rivals if tower[name]["cosine"] >= own["cosine"] - 5e-5]
    rate = results["throughput"]["embed_audio"] / results["throughput"]["loop of score"]

    def to(figures: Results, name: str, other: str) -> float:
        return float(figures[name]["median_ms"] / figures[other]["median_ms"])

    rows: list[tuple[str, float, float, str]] = [
        ("tower INT8 to transformers, eager", to(tower, OURS_INT8, EAGER), 0.20, ".3f"),
        ("tower INT8 to the fastest OpenVINO of equal cosine", own["median_ms"] / min(as_good), 1.0, ".3f"),
        ("tower FP32 to transformers, eager", to(tower, OURS, EAGER), 0.55, ".3f"),
        ("tower FP32 to ONNX Runtime on a plain export", to(tower, OURS, PLAIN_GRAPH), 1.0, ".3f"),
        ("file to scores, warm, INT8 to the pipeline", to(file, OURS_INT8, PIPELINE), 0.25, ".3f"),
        ("file to scores, a whole process to the pipeline's", to(whole, "clapedge score", PIPELINE), 0.08, ".3f"),
        ("peak memory of scoring, MB", whole["clapedge score"]["peak_mb"], 230, ".0f"),
        ("audio-only INT8 bundle, MB", results["bundle_mb"][SMALL], 50, ".1f"),
    ]
    lines = [f"| {what} | {value:{form}} | ≤ {aim:g} | {_met(met=value <= aim)} |" for what, value, aim, form in rows]
    lines.append(
        f"| `embed_audio` to a loop of `score`, files per second | {rate:.2f} | ≥ {RATE} | {_met(met=rate >= RATE)} |"
    )
    head = "| 4 threads, ratios of medians | reached | aim | |\n|---|---|---|---|"
    return "\n".join((head, *lines))


def _towers(results: Results) -> str:
    """Tabulate the towers."""
    one, four = results["tower, threads 1"], results["tower, threads 4"]
    lines = [
        f"| {name} | {one[name]['median_ms']:.1f} | {row['median_ms']:.1f} | {row['least_ms']:.1f} | "
        f"{row['after_pause_ms']:.1f} | {row['median_ms'] / four[EAGER]['median_ms']:.2f} | {row['cosine']:.6f} |"
        for name, row in four.items()
    ]
    head = (
        "| one clip to its embedding | 1 thread | 4 threads | its least | after a pause | of eager | cosine |\n"
        "|---|---|---|---|---|---|---|"
    )
    return "\n".join((head, *lines))


def _scorers(results: Results) -> str:
    """Tabulate what scores a file."""
    one, four = results["file, threads 1"], results["file, threads 4"]
    lines = [
        f"| {name} | {one[name]['median_ms']:.1f} | {row['median_ms']:.1f} | {row['after_pause_ms']:.1f} | "
        f"{row['median_ms'] / four[PIPELINE]['median_ms']:.3f} | {row['difference']:.4f} |"
        for name, row in four.items()
    ]
    head = (
        "| WAV of 10 s to scores of 10 labels, warm | 1 thread | 4 threads | after a pause | of the pipeline "
        "| largest difference of a probability |\n|---|---|---|---|---|---|"
    )
    return "\n".join((head, *lines))


def _processes(results: Results) -> str:
    """Tabulate whole processes."""
    lines = [
        f"| {name} | {row['median_ms']:.0f} | {row['peak_mb']:.0f} |" for name, row in results["processes"].items()
    ]
    head = "| a whole process, one file | cold, ms | peak memory, MB |\n|---|---|---|"
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in results["throughput"].items())
    return "\n".join((head, *lines)) + f"\n\nFiles per second, INT8, 4 cores: {rates}."


def _met(*, met: bool) -> str:
    """Say whether an aim was reached."""
    return "reached" if met else "missed"


def _plot(results: Results, path: Path) -> None:
    """Draw bars: the tower and the whole way, 4 threads."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "clapedge"  # the same figures give the same file
    mpl.rcParams["svg.fonttype"] = "none"
    cold = {f"{name}, cold": row["median_ms"] for name, row in results["processes"].items()}
    warm = {name: row["median_ms"] for name, row in results["file, threads 4"].items()}
    tower = {name: row["median_ms"] for name, row in results["tower, threads 4"].items()}
    panels = {"One clip to its embedding, ms": tower, "A file of 10 s to scores, ms (logarithmic)": warm | cold}
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    axes = figure.subplots(2, 1, height_ratios=[len(rows) for rows in panels.values()])
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        names = sorted(rows, key=rows.__getitem__, reverse=True)
        colours = [OWN_COLOUR if name.startswith("clapedge") else PEER_COLOUR for name in names]
        bars = axis.barh(names, [rows[name] for name in names], color=colours)
        axis.bar_label(bars, fmt="%.0f", padding=3)
        axis.set_title(title, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.12)
    axes[1].set_xscale("log")
    figure.savefig(path, metadata={"Date": None})
