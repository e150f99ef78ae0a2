"""LAION's own checkpoints (`.pt`): only tensors are read, and renamed as in transformers.

Source of the names: `laion_clap/clap_module` (`model.py`, `htsat.py`) of LAION-AI/CLAP.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from clapedge.errors import ModelError
from clapedge.features.front_end import FrontEnd
from clapedge_export import hub
from clapedge_export.checkpoint import Checkpoint, load_model, read_state, read_tokenizer

TOKENIZER_MODEL = "FacebookAI/roberta-base"
"""Hub id of the tokenizer that every LAION checkpoint was trained with."""

RULES: tuple[tuple[str, str], ...] = (
    (r"^audio_branch\.bn0\.", "audio_model.audio_encoder.batch_norm."),
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"^text_branch\.", "text_model."),
    (r"^(audio|text)_projection\.0\.", r"\1_projection.linear1."),
    (r"^(audio|text)_projection\.2\.", r"\1_projection.linear2."),
    (r"(\.blocks\.\d+)\.norm1\.", r"\1.layernorm_before."),
    (r"(\.blocks\.\d+)\.norm2\.", r"\1.layernorm_after."),
    (r"(\.blocks\.\d+)\.attn\.proj\.", r"\1.attention.output.dense."),
    (r"(\.blocks\.\d+)\.attn\.", r"\1.attention.self."),
    (r"(\.blocks\.\d+)\.mlp\.fc1\.", r"\1.intermediate.dense."),
    (r"(\.blocks\.\d+)\.mlp\.fc2\.", r"\1.output.dense."),
)
"""Patterns and replacements from LAION's names to those of transformers, applied in order."""

ROBERTA_HEAD = 64
"""Width of an attention head of RoBERTa, of any size."""

ROBERTA_EPS = 1e-5
"""`layer_norm_eps` of roberta-base."""


def read_checkpoint(file: Path, *, tokenizer: Path | None = None) -> Checkpoint:
    """Read a checkpoint of LAION: fused or not, HTSAT of any size, RoBERTa as text encoder.

    Args:
        file: a `.pt` file such as `630k-audioset-fusion-best.pt`.
        tokenizer: `tokenizer.json` of roberta-base, or a directory that holds it; None takes it from the hub.

    Raises:
        ModelError: it is not such a checkpoint, or the tokenizer cannot be found.
    """
    original = {key.removeprefix("module."): tensor for key, tensor in read_state(file).items()}
    config = configuration(original, file)
    model = load_model(config, renamed(original), file)
    fusion = bool(config["audio_config"]["enable_fusion"])
    return Checkpoint(
        model=model,
        tokenizer=read_tokenizer(tokenizer or _hub_tokenizer(file)),
        front_end=FrontEnd(fusion=fusion, mel_scale="htk" if fusion else "slaney"),
        name=file.stem,
    )


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a LAION checkpoint by transformers' names, with q, k and v separate."""
    result: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = key
        for pattern, replacement in RULES:
            name = re.sub(pattern, replacement, name)
        if ".attention.self.qkv." in name:
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                result[name.replace(".qkv.", f".{part}.")] = rows
        else:
            result[name] = tensor
    return result


def configuration(state: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    """Return the architecture that the shapes of the tensors imply, as the content of a `config.json`.

    Args:
        state: tensors by LAION's names.
        file: named in errors.

    Raises:
        ModelError: an audio or text encoder that transformers' CLAP does not have.
    """
    blocks = [re.match(r"audio_branch\.layers\.(\d+)\.blocks\.(\d+)\.attn\.qkv\.weight", key) for key in state]
    places = [(int(found[1]), int(found[2])) for found in blocks if found]
    layers = [re.match(r"text_branch\.encoder\.layer\.(\d+)\.attention", key) for key in state]
    if not places or not any(layers) or "text_branch.pooler.dense.weight" not in state:
        raise ModelError(
            f"{file} is not a LAION checkpoint with an HTSAT audio encoder and a RoBERTa text encoder; give one that is"
        )
    fusion = "audio_branch.patch_embed.mel_conv2d.weight" in state
    if fusion != any("fusion_model.local_att." in key for key in state) or any("local_att2." in key for key in state):
        raise ModelError(f"{file} fuses long recordings in another way than aff_2d, the only one that clapedge reads")
    stages = 1 + max(stage for stage, _ in places)
    first = "audio_branch.layers.0.blocks.0"
    width = len(state[f"{first}.norm1.weight"])
    tables = [
        state[f"audio_branch.layers.{stage}.blocks.0.attn.relative_position_bias_table"] for stage in range(stages)
    ]
    words, positions = (state[f"text_branch.embeddings.{kind}_embeddings.weight"] for kind in ("word", "position"))
    return {
        "model_type": "clap",
        "projection_dim": len(state["audio_projection.2.bias"]),
        "audio_config": {
            "enable_fusion": fusion,
            "patch_embeds_hidden_size": width,
            "hidden_size": width * 2 ** (stages - 1),
            "depths": [sum(stage == number for stage, _ in places) for number in range(stages)],
            "num_attention_heads": [table.shape[1] for table in tables],
            "window_size": (math.isqrt(len(tables[0])) + 1) // 2,  # a table has (2 * window - 1) ** 2 rows
            "mlp_ratio": len(state[f"{first}.mlp.fc1.weight"]) / width,
        },
        "text_config": {
            "vocab_size": len(words),
            "hidden_size": words.shape[1],
            "max_position_embeddings": len(positions),
            "num_hidden_layers": 1 + max(int(found[1]) for found in layers if found),
            "num_attention_heads": max(1, words.shape[1] // ROBERTA_HEAD),
            "intermediate_size": len(state["text_branch.encoder.layer.0.intermediate.dense.bias"]),
            "layer_norm_eps": ROBERTA_EPS,
        },
    }


def _hub_tokenizer(file: Path) -> Path:
    """Return the directory of roberta-base's tokenizer, downloaded or from the cache."""
    try:
        directory, _ = hub.fetch(TOKENIZER_MODEL, ("tokenizer.json",))
    except ModelError as error:
        raise ModelError(
            f'{file} needs the tokenizer of roberta-base; give it as tokenizer="PATH" ({error})'
        ) from error
    return directory
