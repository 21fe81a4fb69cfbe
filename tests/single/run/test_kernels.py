"""Which kernels torch is asked for, on a machine that seems to have a GPU."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hpcsgd.config import RunConfig
from hpcsgd.errors import KernelError, UsageError
from hpcsgd.run.kernels import WORKSPACE, choosing_kernels, driver_version, gpu_versions

NO_KERNEL = "cumsum_cuda_kernel does not have a deterministic implementation, but you set 'torch.use_determi...'"


def recipe(**settings: Any) -> RunConfig:
    return RunConfig(local_batch_size=1, **settings)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv(WORKSPACE, "")
    monkeypatch.delenv(WORKSPACE)
    yield
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
    assert torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]


def test_deterministic_kernels_are_asked_for_inside_and_never_after(gpu: None) -> None:
    with choosing_kernels(recipe(deterministic=True)):
        assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
        assert os.environ[WORKSPACE] == ":4096:8"
    with choosing_kernels(recipe(cudnn_benchmark=True)):
        assert torch.backends.cudnn.benchmark and not torch.are_deterministic_algorithms_enabled()


def test_cpus_are_left_alone(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with choosing_kernels(recipe(deterministic=True, device="cpu")):
        assert not torch.are_deterministic_algorithms_enabled()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with choosing_kernels(recipe(deterministic=True)):
        assert not torch.are_deterministic_algorithms_enabled()


def test_what_cannot_be_deterministic_is_said(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(KernelError, match="torch has no deterministic kernel for cumsum_cuda_kernel: set it to false"),
        choosing_kernels(recipe(deterministic=True)),
    ):
        raise RuntimeError(NO_KERNEL)
    with pytest.raises(RuntimeError, match="another"), choosing_kernels(recipe(deterministic=True)):
        raise RuntimeError("another")
    monkeypatch.setenv(WORKSPACE, ":8:8")
    with pytest.raises(UsageError, match="is :8:8: it must be one of"), choosing_kernels(recipe(deterministic=True)):
        pass
    with pytest.raises(ValueError, match="cudnn_benchmark is True: it must be false where deterministic is true"):
        recipe(deterministic=True, cudnn_benchmark=True)


def test_versions_of_a_gpu_are_there_and_json_can_hold_them(tmp_path: Path) -> None:
    assert gpu_versions(torch.device("cpu")) is None
    found = gpu_versions(torch.device("cuda", 0))
    assert found is not None and json.loads(json.dumps(found)) == found
    assert {"cuda", "cudnn", "nccl", "driver", "tf32"} <= set(found)
    shown = tmp_path / "version"
    shown.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n")
    assert driver_version((tmp_path / "none", shown)) == "550.54.15"
    assert driver_version((tmp_path / "none",)) is None
