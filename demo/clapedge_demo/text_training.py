"""Training of the text tower: captions to the anchors of their kinds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ClapModel, RobertaTokenizer

from clapedge_demo import captions
from clapedge_demo.anchors import CLASSES, make_anchors
from clapedge_demo.model import SPECIAL_TOKENS
from clapedge_demo.weights import parameter_groups


@dataclass(frozen=True)
class TextRecipe:
    """How the text tower is trained.

    Attributes:
        steps: number of batches; each holds two captions of every kind and some of unknown sounds.
        warmup: steps in which the learning rate rises; in the second half of all steps it falls to zero.
        rate: highest learning rate of AdamW.
        weight_decay: of matrices.
        smoothing: of the targets.
        scale: factor of similarities, so low that captions move close to their anchors.
        merge_dropout: share of merges that the tokenizer leaves out in every other batch, so that words are known by
            their parts, too.
    """

    steps: int = 1500
    warmup: int = 50
    rate: float = 1e-3
    weight_decay: float = 0.05
    smoothing: float = 0.02
    scale: float = 7.0
    merge_dropout: float = 0.1

    def rate_at(self, step: int) -> float:
        """Return the learning rate at a step."""
        return self.rate * min(1.0, (step + 1) / self.warmup, 2 * (self.steps - step) / self.steps)


def train_text(model: ClapModel, tokenizer: RobertaTokenizer, *, recipe: TextRecipe, seed: int) -> None:
    """Teach the text tower the anchor of every caption, and captions of unknown sounds to be equally far from all."""
    private = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())  # its dropout is switched on and off
    anchors = make_anchors(model.config.projection_dim)
    named = [(name, parameter) for name, parameter in model.named_parameters() if name.startswith("text_")]
    parameters = [parameter for _, parameter in named]
    optimizer = torch.optim.AdamW(parameter_groups(named, recipe.weight_decay), betas=(0.9, 0.98))
    unknown = len(CLASSES) // 2
    goal = torch.cat([torch.eye(len(CLASSES)).repeat(2, 1), torch.full((unknown, len(CLASSES)), 1 / len(CLASSES))])
    model.train()
    for step in range(recipe.steps):
        rng = np.random.default_rng([seed, step, 1])
        torch.manual_seed(seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate_at(step)
        private.model.dropout = recipe.merge_dropout if rng.random() < 0.5 else None
        prompts = [captions.sample(kind, rng) for kind in (*CLASSES, *CLASSES)]
        prompts += [captions.sample_unknown(rng) for _ in range(unknown)]
        similarity = embed_texts(model, private, prompts) @ anchors.T
        loss = F.cross_entropy(recipe.scale * similarity, goal, label_smoothing=recipe.smoothing)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()


def embed_texts(model: ClapModel, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Return the unit embeddings (N, E) of texts."""
    encoded = [tokenizer.encode(text).ids for text in texts]
    padding = SPECIAL_TOKENS.index("<pad>")
    longest = max(map(len, encoded))
    ids = torch.tensor([row + [padding] * (longest - len(row)) for row in encoded])
    features = model.get_text_features(input_ids=ids, attention_mask=(ids != padding).long())
    return F.normalize(features.pooler_output, dim=-1)
