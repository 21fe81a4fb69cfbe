"""What text.yaml names: a Transformer with tied embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TiedTransformer(nn.Module):
    """From tokens int64 [n, length] to logits of the tokens that follow, [n, length, vocabulary]."""

    def __init__(
        self, width: int = 64, heads: int = 4, layers: int = 2, length: int = 64, vocabulary: int = 256
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        past = nn.Transformer.generate_square_subsequent_mask(length, tokens.device, self.position.dtype)
        return self.head(self.blocks(self.embedding(tokens) + self.position[:length], past, is_causal=True))
