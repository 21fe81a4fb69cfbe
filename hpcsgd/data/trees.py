"""Trees of tensors, which the inputs and the targets of a batch are.

A tree is a tensor, or a dict, list, tuple or named tuple of trees; what is in it beside tensors stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

Tree = Any


def map_tree(function: Callable[[Tensor], Any], tree: Tree) -> Tree:
    """The tree with ``function`` of each tensor in its place."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return type(tree)((key, map_tree(function, part)) for key, part in tree.items())
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tree(function, part) for part in tree))
    if isinstance(tree, list | tuple):
        return type(tree)(map_tree(function, part) for part in tree)
    return tree


def leaves(tree: Tree) -> Iterator[Tensor]:
    """The tensors of a tree, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for part in tree.values():
            yield from leaves(part)
    elif isinstance(tree, list | tuple):
        for part in tree:
            yield from leaves(part)


def stretch(tree: Tree, start: int, stop: int) -> Tree:
    """Samples ``start`` to ``stop`` - 1 of tensors [n, ...], as views."""
    return map_tree(lambda tensor: tensor[start:stop], tree)


def stack_trees(trees: Sequence[Tree]) -> Tree:
    """Trees of the same form as one, whose tensors have a new first axis."""
    columns = [list(leaves(tree)) for tree in trees]
    stacked = iter([torch.stack(column) for column in zip(*columns, strict=True)])
    return map_tree(lambda _: next(stacked), trees[0])
