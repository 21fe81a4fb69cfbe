"""Small language models: tokens [n, T] to logits of the next token, [n, T, vocabulary]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LSTMModel(nn.Module):
    """An embedding, LSTM layers, and a linear layer, as torch initialises them."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int, layers: int) -> None:
        """Build the network for so many tokens; ``hidden`` units in each layer."""
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True)
        self.linear = nn.Linear(hidden, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [n, T] to logits [n, T, vocabulary]; every sequence starts at rest."""
        states, _ = self.lstm(self.embedding(tokens))
        logits: Tensor = self.linear(states)
        return logits


class Transformer(nn.Module):
    """A decoder: token and position embeddings, blocks of causal attention and a hidden layer, normalised before each.

    Embeddings are normal with standard deviation 0.02, as is usual for decoders; all else as torch initialises it.
    """

    def __init__(self, vocabulary: int, length: int, embedding: int, hidden: int, layers: int, heads: int) -> None:
        """
        Args:
            vocabulary: tokens.
            length: longest sequence.
            embedding: width, a multiple of ``heads``.
            hidden: units of a block's hidden layer.
            layers: blocks.
            heads: of the attention.
        """
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, embedding)
        self.positions = nn.Embedding(length, embedding)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks = nn.Sequential(*(Block(embedding, hidden, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(embedding)
        self.linear = nn.Linear(embedding, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [n, T] to logits [n, T, vocabulary]; logits of a place depend on the tokens up to it alone."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        logits: Tensor = self.linear(self.norm(self.blocks(self.tokens(tokens) + self.positions(places))))
        return logits


class Block(nn.Module):
    """Attention to what came before, and a hidden layer, each added to its input."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        """A block that keeps the ``width``."""
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.projections = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.hidden = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, states: Tensor) -> Tensor:
        """[n, T, width] to the same."""
        count, length, width = states.shape
        parts = self.projections(self.norm1(states)).view(count, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        states = states + self.output(attended.transpose(1, 2).reshape(count, length, width))
        result: Tensor = states + self.hidden(self.norm2(states))
        return result
