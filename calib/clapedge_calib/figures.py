"""Evaluations as text, CSV and pictures."""

import csv
import io
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from clapedge.atomic_file import atomic_write, check_target
from clapedge.errors import MissingExtraError
from clapedge.terminal import display_width
from clapedge_calib.evaluation import Evaluation

SHADES = " ░▒▓█"
"""Shades of a cell of the confusion matrix, from none to all of its row."""

WIDEST_MATRIX = 30
"""Labels up to which the confusion matrix fits a terminal."""


def summary(evaluations: Sequence[Evaluation]) -> str:
    """Return one row for each variant."""
    lines = [f"{'variant':8} {'clips':>6}  {'top-1 (95 %)':24}  {'top-5 (95 %)':24}  {'mAP':>6}  {'ECE':>6}  agreement"]
    for each in evaluations:
        agreed = each.agreement
        tail = (
            f"top-1 {agreed.top1.value:.1%}, rank {agreed.rank:.4f}, cosine {agreed.cosine_mean:.5f} "
            f"(least {agreed.cosine_min:.5f}) with {agreed.reference}"
            if agreed
            else "-"
        )
        lines.append(
            f"{each.variant:8} {each.clips:6}  {each.top1!s:24}  {each.top5!s:24}  "
            f"{each.mean_average_precision:6.3f}  {each.calibration_error:6.3f}  {tail}"
        )
    return "\n".join(lines)


def class_table(evaluation: Evaluation) -> str:
    """Return one row for each class."""
    width = max(display_width(each.label) for each in evaluation.classes)
    head = (
        f"{'class':{width}}  {'clips':>5}  {'recall (95 %)':24}  {'precision':>9}  {'AP':>6}  most often mistaken for"
    )
    lines = [f"{evaluation.variant}, class by class", head]
    for each in evaluation.classes:
        precision = "-" if each.precision is None else f"{each.precision:.1%}"
        lines.append(
            f"{_padded(each.label, width)}  {each.clips:5}  {each.recall!s:24}  {precision:>9}  "
            f"{each.average_precision:6.3f}  {each.mistaken_for or '-'}"
        )
    return "\n".join(lines)


def confusion_text(evaluation: Evaluation) -> str:
    """Return the confusion matrix with shaded cells; a row is the truth, a column the prediction."""
    labels, counts = evaluation.labels, evaluation.confusion
    if len(labels) > WIDEST_MATRIX:
        return f"{len(labels)} labels are too many for a terminal: write the confusion matrix to a CSV"
    width = max(map(display_width, labels))
    cell = max(3, *(len(str(count)) + 1 for row in counts for count in row))
    lines = [f"{evaluation.variant}, rows: the truth, columns: the predictions"]
    lines.append(" " * (width + 4) + "".join(f"{place:{cell + 1}}" for place in range(1, len(labels) + 1)))
    for place, (label, row) in enumerate(zip(labels, counts, strict=True), 1):
        of = max(1, sum(row))
        cells = "".join(f"{count or '·':>{cell}}{_shade(count / of)}" for count in row)
        lines.append(f"{place:3} {_padded(label, width)}{cells}")
    return "\n".join(lines)


def classes_csv(evaluations: Sequence[Evaluation]) -> str:
    """Return one row for each variant and class; the class `*` is all of them."""
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(["variant", "class", "clips", "recall", "low", "high", "precision", "ap", "mistaken_for"])
    for each in evaluations:
        top1 = each.top1
        rows.writerow(
            [each.variant, "*", each.clips, top1.value, top1.low, top1.high, "", each.mean_average_precision, ""]
        )
        for one in each.classes:
            shares = (one.recall.value, one.recall.low, one.recall.high)
            precision = "" if one.precision is None else one.precision
            average = "" if math.isnan(one.average_precision) else one.average_precision
            rows.writerow([each.variant, one.label, one.clips, *shares, precision, average, one.mistaken_for or ""])
    return stream.getvalue()


def check_confusion(path: Path | None, *, force: bool) -> None:
    """Raise if a confusion matrix could not be written to a file, or would replace one; None is not a file.

    Raises:
        MissingExtraError: PNG is wanted and matplotlib is not installed.
        StorageError: its folder cannot be written to.
        UsageError: the suffix is another, there is something already, or no folder to hold it.
    """
    if path is None:
        return
    check_target(path, force=force, suffixes=(".csv", ".png"))
    if path.suffix.lower() == ".png" and find_spec("matplotlib") is None:
        raise MissingExtraError("a confusion matrix as PNG", "calib")


def write_confusion(evaluation: Evaluation, path: Path | None) -> None:
    """Write the confusion matrix as CSV or PNG, by the suffix of a path that `check_confusion` has passed.

    Raises:
        StorageError: the file cannot be written.
    """
    if path is None:
        return
    with atomic_write(path) as temporary:
        temporary.write_bytes(_png(evaluation) if path.suffix.lower() == ".png" else _csv(evaluation))


def _csv(evaluation: Evaluation) -> bytes:
    """Return the confusion matrix as CSV."""
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(["truth", *evaluation.labels])
    rows.writerows([label, *row] for label, row in zip(evaluation.labels, evaluation.confusion, strict=True))
    return stream.getvalue().encode()


def _png(evaluation: Evaluation) -> bytes:
    """Draw the confusion matrix."""
    from matplotlib.figure import Figure

    size = len(evaluation.labels)
    inches = max(5.0, 0.32 * size + 2.5)
    figure = Figure(figsize=(inches, inches), layout="constrained")
    axes = figure.subplots()
    axes.imshow([[count / max(1, sum(row)) for count in row] for row in evaluation.confusion], cmap="Blues", vmax=1)
    for row, counts in enumerate(evaluation.confusion):
        for column, count in enumerate(counts):
            if count:
                dark = count / sum(counts) > 0.5  # noqa: PLR2004 - half way between white and blue
                axes.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(size), evaluation.labels, rotation=90)
    axes.set_yticks(range(size), evaluation.labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    axes.set_title(f"{evaluation.variant}: top-1 {evaluation.top1}")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()


def _shade(part: float) -> str:
    """Return a block as dark as its part of the whole."""
    return SHADES[math.ceil(part * (len(SHADES) - 1))]


def _padded(text: str, width: int) -> str:
    """Fill a text up with spaces to so many terminal columns."""
    return text + " " * (width - display_width(text))
