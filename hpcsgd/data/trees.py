"""Trees of tensors, or of NumPy arrays, which the inputs and the targets of samples are.

A tree is a tensor or an array, or a dict, list, tuple or named tuple of trees; what is in it beside these stays as it
is. Nothing here imports torch: a data set is read without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Tree = Any
BRANCHES = (dict, list, tuple)


def is_leaf(tree: Tree) -> bool:
    """Whether a tree is one tensor or array."""
    return hasattr(tree, "dtype") and hasattr(tree, "shape")


def map_tree(function: Callable[[Any], Any], tree: Tree) -> Tree:
    """The tree with ``function`` of each tensor in its place."""
    if is_leaf(tree):
        return function(tree)
    if isinstance(tree, dict):
        return type(tree)((key, map_tree(function, part)) for key, part in tree.items())
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tree(function, part) for part in tree))
    if isinstance(tree, list | tuple):
        return type(tree)(map_tree(function, part) for part in tree)
    return tree


def leaves(tree: Tree) -> Iterator[Any]:
    """The tensors of a tree, in order."""
    if is_leaf(tree):
        yield tree
    elif isinstance(tree, dict):
        for part in tree.values():
            yield from leaves(part)
    elif isinstance(tree, list | tuple):
        for part in tree:
            yield from leaves(part)


def count_samples(tree: Tree) -> int | None:
    """Length of the first tensor that has an axis; None: there is none."""
    if isinstance(tree, BRANCHES):
        for part in tree.values() if isinstance(tree, dict) else tree:
            count = count_samples(part)
            if count is not None:
                return count
        return None
    shape = getattr(tree, "shape", None)
    return shape[0] if shape else None


def stretch(tree: Tree, start: int, stop: int) -> Tree:
    """Samples ``start`` to ``stop`` - 1 of tensors [n, ...], as views."""
    return map_tree(lambda tensor: tensor[start:stop], tree)


def stack_trees(trees: Sequence[Tree]) -> Tree:
    """Trees of tensors of the same form as one, whose tensors have a new first axis."""
    import torch

    columns = [list(leaves(tree)) for tree in trees]
    stacked = iter([torch.stack(column) for column in zip(*columns, strict=True)])
    return map_tree(lambda _: next(stacked), trees[0])
