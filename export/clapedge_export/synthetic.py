"""Random checkpoints of full size: the published architectures for benchmarks and tests, without a download."""

import math
from typing import TYPE_CHECKING, Any

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import ClapConfig, ClapModel

from clapedge.errors import ModelError
from clapedge.features.front_end import FrontEnd
from clapedge_export.checkpoint import Checkpoint
from clapedge_export.quiet import quiet

if TYPE_CHECKING:
    from clapedge_export.layers import Original

PREFIX = "random:"
"""Prefix of the names of random checkpoints."""

NAMES = {f"{PREFIX}clap-htsat-fused": True, f"{PREFIX}clap-htsat-unfused": False}
"""Names, and whether the model fuses long recordings."""

ROBERTA_BASE: dict[str, Any] = {
    "vocab_size": 50_265,
    "max_position_embeddings": 514,
    "layer_norm_eps": 1e-5,
    "type_vocab_size": 1,
}
"""The configuration of roberta-base, as far as it must not depend on the defaults of transformers."""

MEL_MEAN, MEL_DEVIATION = -35.0, 18.0
"""Level of a log-mel in dB, about that of ordinary recordings: BatchNorm turns it into zero mean and unit variance."""

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
"""RoBERTa's special tokens, in the order of their ids from 0 on."""


def make_checkpoint(name: str, *, seed: int = 0) -> Checkpoint:
    """Make a checkpoint of random weights; the same seed gives the same ones.

    Args:
        name: one of `NAMES`.
        seed: an integer of 0 or more.

    Raises:
        ModelError: the name is not one of them.
    """
    if name not in NAMES:
        raise ModelError(f"{name} is not a random model; choose one of {', '.join(NAMES)}")
    fusion = NAMES[name]
    config = ClapConfig(text_config=ROBERTA_BASE, audio_config={"enable_fusion": fusion})
    with quiet():
        model = ClapModel(config)
    model.train(mode=False)
    randomize(model, seed=seed)
    return Checkpoint(
        model=model,
        tokenizer=byte_tokenizer(),
        front_end=FrontEnd(fusion=fusion, mel_scale="htk" if fusion else "slaney"),
        name=name,
        licence="Apache-2.0",
        weights="random",
        notes=(f"The weights are random (seed {seed}): probabilities mean nothing.",),
    )


@torch.no_grad()
def randomize(model: ClapModel, *, seed: int) -> None:
    """Draw every weight and every BatchNorm statistic of a model, so that no part of it is an identity.

    Weights have the variance that keeps a signal's level from layer to layer.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: Tensor, mean: float, deviation: float) -> None:
        tensor.normal_(mean, deviation, generator=generator)

    modules: list[Original] = list(model.modules())
    for module in modules:
        if isinstance(module, nn.Embedding):
            normal(module.weight, 0.0, 0.5)
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            normal(module.weight, 1.0, 0.1)
            normal(module.bias, 0.0, 0.1)
        elif isinstance(module, nn.Linear | nn.Conv2d):
            normal(module.weight, 0.0, 1.0 / math.sqrt(module.weight[0].numel()))
            if module.bias is not None:
                normal(module.bias, 0.0, 0.1)
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            normal(module.running_mean, 0.0, 0.2)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
        if hasattr(module, "relative_position_bias_table"):
            normal(module.relative_position_bias_table, 0.0, 0.5)
    mels: Original = model.audio_model.audio_encoder.batch_norm
    normal(mels.running_mean, MEL_MEAN, 8.0)
    mels.running_var.mul_(MEL_DEVIATION**2)


def byte_tokenizer() -> bytes:
    """Return a `tokenizer.json` with one token for each byte, and RoBERTa's special tokens."""
    vocabulary = {token: index for index, token in enumerate(SPECIAL_TOKENS)}
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[letter] = len(vocabulary)
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=SPECIAL_TOKENS[-1]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    text: str = tokenizer.to_str(pretty=False)
    return text.encode()
