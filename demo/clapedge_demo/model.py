"""The demo's ClapModel: configuration, tokenizer, and the checkpoint directory in the layout of the hub."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    RobertaTokenizer,
)

from clapedge_demo.wordings import RECORDED, SYNTHESISED

NAME = "clapedge-demo"
NOTES = (
    f"Knows {len(RECORDED)} recorded and {len(SYNTHESISED)} synthesised kinds of sound, by their English names.",
    (
        "Trained on folds 1 to 3 of ESC-10 (K. J. Piczak, 2015, CC BY 3.0) and on sounds that clapedge makes. The "
        "authors of the recordings stand in ATTRIBUTION.csv beside the model."
    ),
)
"""What every bundle of the model says."""
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""RoBERTa's, with the ids 0 to 4."""
VOCABULARY = 1500
EMBEDDING = 256
"""Size of the common space."""
WIDTH = 32
"""Channels of the first stage; 96 in HTSAT-tiny."""
DEPTHS = (2, 2, 2, 2)
HEADS = (2, 4, 8, 16)
LONGEST_PROMPT = 128
"""Tokens of the longest prompt, special ones included."""


def train_tokenizer(texts: Sequence[str]) -> RobertaTokenizer:
    """Train a byte-level BPE on captions."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    # transformers' class adds RoBERTa's post-processor
    merges: Any = [tuple(merge) for merge in learned["merges"]]  # pairs, which its type does not know
    return RobertaTokenizer(vocab=learned["vocab"], merges=merges, model_max_length=LONGEST_PROMPT)


def new_model(vocabulary: int) -> ClapModel:
    """Make an untrained model: a narrow fused HTSAT and a RoBERTa of two layers."""
    audio = ClapAudioConfig(
        patch_embeds_hidden_size=WIDTH,
        depths=list(DEPTHS),
        num_attention_heads=list(HEADS),
        hidden_size=WIDTH * 2 ** (len(DEPTHS) - 1),
        enable_fusion=True,
        hidden_dropout_prob=0.1,
        drop_path_rate=0.1,
        projection_dim=EMBEDDING,
    )
    text = ClapTextConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=LONGEST_PROMPT + 2,  # RoBERTa counts positions from the id of the padding plus one
        layer_norm_eps=1e-5,
        projection_dim=EMBEDDING,
    )
    config = ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=EMBEDDING)
    config.update({"clapedge_weights": "demo", "clapedge_name": NAME, "clapedge_notes": list(NOTES)})
    model = ClapModel(config)
    _initialise(model)
    return model


@torch.no_grad()
def _initialise(model: ClapModel) -> None:
    """Draw weights by the width of each layer.

    Those of transformers are made for wide towers: in a narrow text tower attention would pass on next to nothing.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            spread = 1.0 if name.startswith("text_") else 3**-0.5
            nn.init.normal_(module.weight, std=spread * module.weight[0].numel() ** -0.5)
    # positions beyond the training captions stay neutral instead of random
    model.text_model.embeddings.position_embeddings.weight.zero_()


def save_checkpoint(model: ClapModel, tokenizer: RobertaTokenizer, directory: Path) -> None:
    """Write model, tokenizer and front end as the hub holds them."""
    extractor = ClapFeatureExtractor(
        feature_size=64,
        sampling_rate=48_000,
        hop_length=480,
        max_length_s=10,
        fft_window_size=1024,
        frequency_min=50,
        frequency_max=14_000,
        truncation="fusion",
        padding="repeatpad",
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    extractor.save_pretrained(directory)
