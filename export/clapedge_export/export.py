"""A checkpoint to a verified bundle: nothing appears at the target before every part of it is proven."""

import math
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from onnx import ModelProto

import clapedge
from clapedge.arrays import Float32Array
from clapedge.errors import ClapEdgeError, ClapEdgeWarning, ModelError, UsageError
from clapedge.features.strips import Strips, tower_name
from clapedge.labels import EmbeddedLabels
from clapedge.model.bundle import (
    Bundle,
    BundleFile,
    Manifest,
    Role,
    Variant,
    describe,
    sha256,
    write_manifest,
)
from clapedge.model.proof import make_proof
from clapedge.model.proof_inputs import PROMPTS
from clapedge.model.towers import TextTower as RunningTextTower
from clapedge.model.transfer.placement import check_place, take_place
from clapedge_export import graphs
from clapedge_export.audio_tower import AudioTower, possible_strips
from clapedge_export.checkpoint import Checkpoint
from clapedge_export.cuda_graph import for_cuda
from clapedge_export.front_end_graph import export_front_end
from clapedge_export.graph_rules import opset_of
from clapedge_export.int8 import dynamic_int8
from clapedge_export.load import load_checkpoint
from clapedge_export.options import ExportOptions
from clapedge_export.shared_weights import share_weights
from clapedge_export.text_tower import TextTower
from clapedge_export.verify import (
    audio_cases,
    check_distinction,
    short_cases,
    text_cases,
    verify_audio,
    verify_front_end,
    verify_short,
    verify_text,
)

MADE_WITH = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
"""Packages whose versions a manifest records."""

TOKENIZER = "tokenizer.json"
FRONT_END = "frontend.onnx"
TOWER_NAMES: dict[Role, str] = {"audio": "audio", "short": "short audio", "text": "text"}

Progress = Callable[[str], None]


def export_bundle(
    model: str,
    out: Path,
    options: ExportOptions | None = None,
    *,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> Bundle:
    """Export a checkpoint as a bundle.

    Args:
        model: hub id, directory, LAION's `.pt` file, or `random:clap-htsat-fused`; see `load_checkpoint`.
        out: directory of the bundle; it appears when the bundle is whole and verified.
        options: what goes into it.
        force: whether to replace a bundle at `out`.
        progress: called with each step in a few words.

    Returns:
        The bundle, opened.

    Raises:
        ModelError: the checkpoint cannot be found, read or exported, or does not distinguish its inputs.
        ParityError: a variant does not reproduce the checkpoint; nothing is left behind.
        UsageError: `out` is in use, or an option means nothing.
    """
    options, out = options or ExportOptions(), out.absolute()
    check_place(out, force=force)
    progress(f"loading {model}")
    checkpoint = load_checkpoint(model, revision=options.revision, tokenizer=options.tokenizer, seed=options.seed)
    with _staged(out) as directory:
        parts = _Parts(directory, checkpoint, options, progress)
        parts.write_audio()
        if options.short:
            parts.write_short()
        if "fp16" in options.variants:  # the precision of GPUs
            parts.write_front_end()
        parts.write_text()
        manifest = _manifest(checkpoint, parts)
        write_manifest(directory, manifest)
    return Bundle.open(out)


@dataclass
class _Parts:
    """The files of a bundle as they are made, each verified as soon as it is written."""

    directory: Path
    checkpoint: Checkpoint
    options: ExportOptions
    progress: Progress
    files: list[BundleFile] = field(default_factory=list)
    text_tower: str = ""
    proof: dict[str, Float32Array] = field(default_factory=dict)
    """What the checkpoint gives for the inputs of a proof, by tower."""

    def write_audio(self) -> None:
        """Write and verify the audio tower in every precision."""
        front_end, batch = self.checkpoint.front_end, self.options.batch
        tower = AudioTower(self.checkpoint.model, frames=front_end.clip_frames)
        cases = audio_cases(self.checkpoint.model, front_end)
        check_distinction(self.checkpoint, "audio", cases)
        self.proof["audio"] = cases.expected[: cases.proof]

        def trace(traced: AudioTower, rows: int | None) -> ModelProto:
            return graphs.export_audio(traced, front_end, batch=rows or batch)

        for variant, graph in self._variants("audio", tower, trace, self.options.variants):
            if variant != "fp16":
                path = self._save("audio", variant, graph)
                self._add(path, "audio", variant, graph, verify_audio(path, cases, variant))
                continue
            with_extremes = audio_cases(self.checkpoint.model, front_end, extremes=True)
            for made, provider in ((graph, None), (for_cuda(tower, front_end, batch=batch), "cuda")):
                path = self._save("audio", variant, made, provider=provider)
                figures = verify_audio(path, with_extremes, variant)
                self._add(path, "audio", variant, made, figures, provider=provider)

    def write_short(self) -> None:
        """Write and verify the short towers, for each precision of CPUs; those that the architecture allows."""
        model, front_end = self.checkpoint.model, self.checkpoint.front_end
        variants: tuple[Variant, ...] = tuple(each for each in self.options.variants if each != "fp16")
        for strips in possible_strips(model) if variants else ():
            tower = AudioTower(model, frames=front_end.clip_frames, strips=strips).eval()
            cases = short_cases(model, front_end, strips)

            def trace(traced: AudioTower, rows: int | None, strips: Strips = strips) -> ModelProto:
                return graphs.export_short(traced, front_end, strips, batch=rows or self.options.batch)

            for variant, graph in self._variants("short", tower, trace, variants):
                path = self.directory / f"audio.{variant}.strips{strips}.onnx"
                share_weights(graph, self.directory / f"audio.{variant}.onnx")
                graphs.save(graph, path)
                self.progress(f"verifying the short audio tower of {tower_name(strips)} in {variant} against its model")
                self._add(path, "short", variant, graph, verify_short(path, tower, cases, variant), strips=strips)

    def write_front_end(self) -> None:
        """Write and verify the log-mel front end as a graph."""
        self.progress("exporting the front end")
        graph, path = export_front_end(self.checkpoint.front_end), self.directory / FRONT_END
        graphs.save(graph, path)
        figures = verify_front_end(path, self.checkpoint.front_end)
        self._add(path, "frontend", None, graph, figures, provider="cuda")

    def write_text(self) -> None:
        """Write and verify the text tower and its tokenizer, and embed the labels with its FP32 variant.

        A bundle without a text tower still names it, so that labels embedded elsewhere are known to fit.
        """
        tower, cases = TextTower(self.checkpoint.model), text_cases(self.checkpoint)
        check_distinction(self.checkpoint, "text", cases)
        self.proof["text"] = cases.expected[: len(PROMPTS)]
        kept = self.options.variants if self.options.text else ()
        # fp32 is always made: it embeds the labels and names the space in which they lie
        made: tuple[Variant, ...] = ("fp32", *(variant for variant in kept if variant != "fp32"))

        def trace(traced: TextTower, rows: int | None) -> ModelProto:
            return graphs.export_text(traced, batch=rows)

        for variant, graph in self._variants("text", tower, trace, made):
            path = self._save("text", variant, graph)
            figures = verify_text(path, cases, variant)
            if variant in kept:
                self._add(path, "text", variant, graph, figures)
            if variant == "fp32":
                self.text_tower = sha256(path)
                self._write_labels(path)
            if variant not in kept:
                path.unlink()
        if self.options.text:
            (self.directory / TOKENIZER).write_bytes(self.checkpoint.tokenizer)
            self.files.append(describe(self.directory, TOKENIZER, role="tokenizer"))

    def _variants(
        self,
        role: Role,
        tower: graphs.Tower,
        trace: Callable[[graphs.Tower, int | None], ModelProto],
        wanted: tuple[Variant, ...],
    ) -> Iterator[tuple[Variant, ModelProto]]:
        """Yield the graph of a tower in each precision.

        INT8 takes one row at a time: it finds its scales in what it is given, and a row must not depend on the others.
        """
        for variant in wanted:
            self.progress(f"exporting the {TOWER_NAMES[role]} tower in {variant}")
            if variant == "fp16":
                yield variant, trace(graphs.half_precision(tower), None)
            elif variant == "int8":
                yield variant, dynamic_int8(trace(tower, 1))
            else:
                yield variant, trace(tower, None)

    def _save(self, role: Role, variant: Variant, graph: ModelProto, *, provider: str | None = None) -> Path:
        """Write a graph and announce its verification."""
        alone = f".{provider}" if provider else ""
        path = self.directory / f"{role}.{variant}{alone}.onnx"
        graphs.save(graph, path)
        where = f" for {provider}" if provider else ""
        self.progress(f"verifying the {role} tower in {variant}{where} against transformers")
        return path

    def _add(
        self,
        path: Path,
        role: Role,
        variant: Variant | None,
        graph: ModelProto,
        figures: dict[str, float],
        *,
        provider: str | None = None,
        strips: Strips | None = None,
    ) -> None:
        """Enter a graph in the list of files; `provider` is the one that it is for alone, `strips` a short tower's."""
        described = describe(
            self.directory,
            path.name,
            role=role,
            variant=variant,
            strips=strips,
            providers=(provider,) if provider else (),
            opset=opset_of(graph),
            inputs=graphs.tensors(graph.graph.input),
            outputs=graphs.tensors(graph.graph.output),
            checks=figures,
        )
        self.files.append(described)

    def _write_labels(self, text_tower: Path) -> None:
        """Embed and store the label sets."""
        if not self.options.label_sets:
            return
        tower = RunningTextTower(text_tower, self.checkpoint.tokenizer, max_tokens=self.checkpoint.max_tokens)
        (self.directory / "labels").mkdir()
        for name, label_set in self.options.label_sets.items():
            self.progress(f"embedding the label set {name}")
            for prompt in tower.truncated(label_set.prompts):
                limit = self.checkpoint.max_tokens
                warnings.warn(
                    f"only the first {limit} tokens of the prompt {prompt[:40]!r}… are read",
                    ClapEdgeWarning,
                    stacklevel=2,
                )
            embedded = EmbeddedLabels.embed(label_set, tower.embed, self.text_tower)
            embedded.save(self.directory / "labels" / f"{name}.npz")
            self.files.append(describe(self.directory, f"labels/{name}.npz", role="labels"))


def _manifest(checkpoint: Checkpoint, parts: _Parts) -> Manifest:
    """Describe the bundle."""
    model = checkpoint.model
    return Manifest(
        model=checkpoint.name,
        revision=checkpoint.revision,
        licence=checkpoint.licence,
        weights=checkpoint.weights,
        front_end=checkpoint.front_end,
        embedding_size=int(model.config.projection_dim),
        logit_scale=math.exp(model.logit_scale_a.item()),
        max_tokens=checkpoint.max_tokens,
        text_tower=parts.text_tower,
        files=tuple(parts.files),
        proof=make_proof(**parts.proof),
        made_with={"clapedge": clapedge.__version__, **{package: version(package) for package in MADE_WITH}},
        notes=checkpoint.notes,
    )


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """Give a temporary sibling of `out` that takes its place when all went well, and is removed otherwise."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise UsageError(
            f"{out.parent} cannot be written to ({error.strerror}); name another directory with -o"
        ) from error
    try:
        fresh = staging / "new"
        fresh.mkdir()  # with the permissions that a user expects, which the private directory around it lacks
        yield fresh
        take_place(fresh, out)
    except OSError as error:
        if isinstance(error, ClapEdgeError):  # some of them are OSErrors too
            raise
        raise ModelError(f"{out} cannot be written ({error.strerror}); make room, or name another with -o") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
