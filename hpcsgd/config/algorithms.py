"""The algorithms by name, for use from Python; a recipe has them as its section ``algorithm``."""

from __future__ import annotations

from typing import Any

from hpcsgd.config.method import AlgorithmConfig


def SyncSGD(**settings: Any) -> AlgorithmConfig:
    """Synchronous SGD (Goyal 2017): gradients are averaged at every step."""
    return AlgorithmConfig(name="sync_sgd", **settings)


def LocalSGD(period: int, **settings: Any) -> AlgorithmConfig:
    """Local SGD (Lin 2020): replicas step on their own, and are averaged after every ``period`` steps."""
    return AlgorithmConfig(name="local_sgd", sync_period=period, **settings)


def PostLocalSGD(period: int, start: str, **settings: Any) -> AlgorithmConfig:
    """Post-local SGD (Lin 2020): synchronous until ``start`` (as ``epoch:N`` or ``first_lr_drop``), then local."""
    return AlgorithmConfig(name="post_local_sgd", sync_period=period, local_start=start, **settings)


def HierarchicalLocalSGD(period: int, block_period: int, **settings: Any) -> AlgorithmConfig:
    """Local SGD of two levels (Lin 2020): all ranks average at every ``block_period``-th averaging, else blocks do."""
    return AlgorithmConfig(
        name="hierarchical_local_sgd", sync_period=period, block_sync_period=block_period, **settings
    )


def DiLoCo(period: int, **settings: Any) -> AlgorithmConfig:
    """DiLoCo (Douillard 2023): local steps, and after every ``period`` of them a Nesterov step on their mean."""
    return AlgorithmConfig(name="diloco", sync_period=period, **settings)


def SMA(period: int = 1, **settings: Any) -> AlgorithmConfig:
    """Synchronous model averaging (Crossbow 2019): learners are drawn to a central model every ``period`` steps."""
    return AlgorithmConfig(name="sma", sync_period=period, **settings)
