"""What the peers share: one set of random weights as checkpoint, bundles and plain graphs, one recording, labels.

Everything lies in one directory and is made once: `python bench/bench_peers.py --fresh` makes it again.
"""

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from bench_frontend import sound
from clapedge.arrays import Float32Array
from clapedge.features.log_mel import LogMel

MODEL = "random:clap-htsat-fused"
LABELS = (
    *("dog barking", "rain", "sea waves", "baby crying", "clock tick"),
    *("person sneezing", "helicopter", "chainsaw", "rooster", "fire crackling"),
)
CHECKPOINT, BUNDLE, SMALL, PLAIN, CALIBRATED = "checkpoint", "bundle", "small", "plain.onnx", "openvino-int8.xml"
RECORDING, LABEL_FILE = "recording.wav", "labels.txt"


def make(directory: Path, *, fresh: bool = False) -> None:
    """Make what is missing, or all of it; takes about four minutes."""
    if fresh:
        shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / LABEL_FILE).write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    soundfile.write(directory / RECORDING, sound(48_000, 1), 48_000)  # no resampler between the answers
    if not (directory / CHECKPOINT).exists():
        _write_checkpoint(directory / CHECKPOINT)
    for name, options in ((BUNDLE, ["--precision", "fp32,int8"]), (SMALL, ["--precision", "int8", "--no-text"])):
        if not (directory / name).exists():
            _export(directory, name, options)
    if not (directory / PLAIN).exists():
        _write_plain_graph(directory / PLAIN)
    if not (directory / CALIBRATED).exists():
        _write_calibrated(directory / BUNDLE / "audio.fp32.onnx", directory / CALIBRATED)


def clips() -> Float32Array:
    """Return log-mels (4, 4, 1001, 64) dB of four clips, each as the one channel that is used and three copies."""
    samples = sound(48_000, 1)[:, 0]
    noise = np.random.default_rng(1).standard_normal(len(samples)).astype(np.float32)
    variants = (samples, samples[::-1] + 0.001 * noise, 0.1 * noise, np.roll(samples, 200_000) * np.float32(0.05))
    transform = LogMel()
    mels = np.stack([transform(np.ascontiguousarray(variant, np.float32)) for variant in variants])
    return np.ascontiguousarray(np.repeat(mels[:, None], 4, axis=1))


def _write_checkpoint(path: Path) -> None:
    """Write the random model as transformers reads it, with a tokenizer that makes one token of each word.

    The exporter's own random model has a token for each byte, which would make the peer's prompts four times as long.
    """
    from tokenizers import Tokenizer, trainers
    from transformers import ClapFeatureExtractor, PreTrainedTokenizerFast

    from clapedge_export.synthetic import SPECIAL_TOKENS, byte_tokenizer, make_checkpoint

    tokenizer = Tokenizer.from_str(byte_tokenizer().decode())
    prompts = [f"This is a sound of {label}." for label in LABELS]
    trainer: Any = trainers.BpeTrainer(vocab_size=2000, min_frequency=0, special_tokens=list(SPECIAL_TOKENS))
    tokenizer.train_from_iterator(prompts * 2, trainer)
    start, padding, end, unknown = SPECIAL_TOKENS
    with _whole(path) as unfinished:
        make_checkpoint(MODEL).model.save_pretrained(unfinished)
        ClapFeatureExtractor(truncation="fusion", frequency_min=50).save_pretrained(unfinished)
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token=start, pad_token=padding, eos_token=end, unk_token=unknown
        ).save_pretrained(unfinished)
        config = unfinished / "config.json"
        entries = json.loads(config.read_text(encoding="utf-8"))
        entries |= {"clapedge_weights": "random", "clapedge_name": MODEL}
        config.write_text(json.dumps(entries), encoding="utf-8")


def _export(directory: Path, name: str, options: list[str]) -> None:
    """Export the same weights as a bundle."""
    command = [sys.executable, "-m", "clapedge.cli", "export", str(directory / CHECKPOINT), *options]
    command += ["-o", str(directory / name), "--labels", str(directory / LABEL_FILE)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - our own


def _write_plain_graph(path: Path) -> None:
    """Let PyTorch export transformers' own module, for a clip that is not longer.

    Its choice by `is_longer` cannot be traced, so that it is made beforehand: the graph sees the one mel that counts.
    """
    import torch

    from clapedge_export.quiet import quiet
    from clapedge_export.synthetic import make_checkpoint

    model = make_checkpoint(MODEL).model

    class Short(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_features: torch.Tensor) -> torch.Tensor:
            embeddings: torch.Tensor = self.model.get_audio_features(input_features).pooler_output
            return embeddings

    encoder: Any = model.audio_model.audio_encoder
    encoder.enable_fusion = encoder.patch_embed.enable_fusion = False
    with quiet(), torch.no_grad(), _whole(path) as unfinished:
        program = torch.onnx.export(
            Short().eval(), (torch.zeros(1, 1, 1001, 64),), None, opset_version=20, dynamo=True, verbose=False
        )
        if program is None:
            raise RuntimeError("PyTorch exported nothing")
        program.save(unfinished)


def _write_calibrated(graph: Path, path: Path) -> None:
    """Let NNCF quantise our graph for OpenVINO, with its settings for transformers, calibrated on the very clips.

    The layers that our INT8 leaves alone stay in float here, too.
    """
    os.environ["NNCF_CI"] = "1"  # it reports its use over the network otherwise
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    model = openvino.Core().read_model(graph)
    model.reshape({"input_features": [1, 4, 1001, 64], "is_longer": [1]})
    inputs = [{"input_features": clip[None], "is_longer": np.zeros(1, bool)} for clip in clips()]
    quantized = nncf.quantize(
        model,
        nncf.Dataset(inputs),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(inputs),
        ignored_scope=nncf.IgnoredScope(patterns=["resize/.*", "patches.*", "projection.*"], validate=False),
    )
    unfinished = path.with_name(f"unfinished-{path.name}")
    openvino.save_model(quantized, unfinished, compress_to_fp16=False)
    unfinished.with_suffix(".bin").replace(path.with_suffix(".bin"))
    unfinished.replace(path)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a temporary name that becomes `path` once everything has been written."""
    unfinished = path.with_name(f"unfinished-{path.name}")
    yield unfinished
    unfinished.replace(path)
