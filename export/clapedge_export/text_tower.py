"""The text tower (RoBERTa) as a graph of dynamic length: token ids and their mask to unit-norm embeddings."""

import torch
from torch import Tensor, nn
from transformers import ClapModel

from clapedge_export.layers import Original, UnitNorm, qkv, side_by_side
from clapedge_export.outliers import fold_opposed, fold_pair, fold_projection

MASKED = -1e4
"""Added to the attention scores of padding: far below every score, and still a number in half precision."""


class TextTower(nn.Module):
    """Token ids to unit-norm embeddings."""

    def __init__(self, model: ClapModel) -> None:
        """Take the weights of a checkpoint; the model itself stays as it is."""
        super().__init__()
        text: Original = model.text_model
        embeddings = text.embeddings
        self.padding = embeddings.padding_idx
        self.words = embeddings.word_embeddings
        # every token of a prompt is of type 0, so that type and position are one table
        positions = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
        self.positions = nn.Embedding.from_pretrained(positions.detach())
        self.norm = embeddings.LayerNorm
        self.layers = nn.ModuleList(Layer(layer) for layer in text.encoder.layer)
        self.pooler = text.pooler
        self.projection = fold_projection(model.text_projection)
        self.unit = UnitNorm()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed prompts.

        Args:
            input_ids: (batch, tokens) int64.
            attention_mask: (batch, tokens) int64, 1 for a token and 0 for padding.

        Returns:
            (batch, embedding size) float32, unit norm.
        """
        seen = input_ids.ne(self.padding).long()
        places = seen.cumsum(1) * seen + self.padding
        tokens = self.norm(self.words(input_ids) + self.positions(places))
        mask = ((1 - attention_mask) * MASKED).to(tokens.dtype)[:, None, None]
        for layer in self.layers:
            tokens = layer(tokens, mask)
        return self.unit(self.projection(self.pooler(tokens)))


class Layer(nn.Module):
    """Attention over the prompt, then the two-layer perceptron, each with its residual and norm after it."""

    def __init__(self, layer: Original) -> None:
        """Take the weights of an encoder layer."""
        super().__init__()
        attention = layer.attention.self
        self.heads = attention.num_attention_heads
        query, key, value = qkv(attention)
        query, key = fold_opposed(query, key)
        value, self.out = fold_pair(value, layer.attention.output.dense)
        self.qkv = side_by_side(query, key, value)
        self.norm_attention = layer.attention.output.LayerNorm
        self.activation = layer.intermediate.intermediate_act_fn
        dense = layer.intermediate.dense, layer.output.dense
        self.expand, self.contract = fold_pair(*dense, activation=self.activation)
        self.norm_mlp = layer.output.LayerNorm

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Transform (batch, tokens, width); `mask` (batch, 1, 1, tokens) is added to the attention scores."""
        tokens = self.norm_attention(self.attend(tokens, mask) + tokens)
        return self.norm_mlp(self.contract(self.activation(self.expand(tokens))) + tokens)

    def attend(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Attend from every token to every token that is not padding."""
        parts = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))
        query, key, value = (part.squeeze(0) for part in parts.permute(2, 0, 3, 1, 4).chunk(3))
        scores = query @ key.transpose(-1, -2) + mask
        attended = torch.softmax(scores, dim=-1) @ value
        return self.out(attended.transpose(1, 2).flatten(2))
