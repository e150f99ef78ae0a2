"""`clapedge export` as a user types it."""

import sys
from pathlib import Path
from subprocess import CompletedProcess, run

import pytest
from click.testing import CliRunner

from clapedge.errors import UsageError
from clapedge.model.bundle import Bundle
from clapedge_export.command import export


def python(code: str) -> CompletedProcess[str]:
    """Run code in a process of its own."""
    return run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.usefixtures("without_tracing")
def test_the_command_makes_a_bundle_and_sums_up_what_was_proven(
    tmp_path: Path, fused_directory: Path, label_file: Path
) -> None:
    out = tmp_path / "new" / "out"
    ended = CliRunner().invoke(export, [str(fused_directory), "-o", str(out), "--labels", str(label_file), "--no-text"])
    assert ended.exit_code == 0, ended.output
    assert ended.stderr == ""
    first, audio, one, two, labels, last = ended.stdout.splitlines()
    assert "small-fused, pretrained weights, licence cc-by-4.0" in first
    assert "audio.fp32.onnx" in audio
    assert "least cosine" in audio
    assert "audio.fp32.strips1.onnx" in one
    assert "audio.fp32.strips2.onnx" in two
    assert "least cosine to the whole" in one
    assert "labels/kitchen.npz" in labels
    assert last.startswith("verified against transformers")
    assert Bundle.open(out).faults() == []


@pytest.mark.usefixtures("without_tracing")
def test_short_towers_can_be_left_out(tmp_path: Path, fused_directory: Path) -> None:
    out = tmp_path / "out"
    ended = CliRunner().invoke(export, [str(fused_directory), "-o", str(out), "--no-text", "--no-short"])
    assert ended.exit_code == 0, ended.output
    assert {file.role for file in Bundle.open(out).manifest.files} == {"audio"}


@pytest.mark.parametrize(
    "arguments",
    [["--batch", "many"], ["--batch", "-1"], ["--seed", "-1"], []],
    ids=" ".join,
)
def test_an_option_that_means_nothing_is_a_usage_error(tmp_path: Path, arguments: list[str]) -> None:
    target = ["-o", str(tmp_path / "out")] if arguments else []
    assert CliRunner().invoke(export, ["random:clap-htsat-fused", *target, *arguments]).exit_code == 2


@pytest.mark.parametrize("arguments", [["--batch", "0"], ["--precision", "fp8"], ["--precision", ","]], ids=" ".join)
def test_a_value_out_of_range_is_a_usage_error(tmp_path: Path, arguments: list[str]) -> None:
    ended = CliRunner().invoke(export, ["random:clap-htsat-fused", "-o", str(tmp_path / "out"), *arguments])
    assert isinstance(ended.exception, UsageError)


def test_help_loads_neither_torch_nor_numpy() -> None:
    ended = python(
        "import sys; from click.testing import CliRunner; from clapedge_export.command import export\n"
        "assert 'random:clap-htsat-fused' in CliRunner().invoke(export, ['--help']).stdout\n"
        "assert not {'torch', 'numpy', 'transformers', 'onnx'} & sys.modules.keys()"
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(("package", "extra"), [("torch", "export"), ("onnxruntime", "cpu,export")])
def test_without_its_extra_the_command_names_it(package: str, extra: str) -> None:
    ended = python(
        f"import sys; sys.modules[{package!r}] = None; sys.argv[1:] = ['export', 'a/b', '-o', 'c']\n"
        "from clapedge.cli import main; main()"
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"pip install 'clapedge[{extra}]'" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
