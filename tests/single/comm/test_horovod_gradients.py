"""What would end the process where Horovod or torch.distributed starts is refused before; no library starts here."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from hpcsgd.comm.horovod_gradients import check_same_mpi, check_settings, prepare_horovod
from hpcsgd.comm.torch_group import check_interfaces
from hpcsgd.errors import UsageError


@pytest.mark.parametrize("version", [0, 22005])
def test_a_horovod_without_nccl_is_refused_on_gpus(monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    stub = types.ModuleType("horovod.torch")
    stub.nccl_built = lambda: version  # type: ignore[attr-defined]
    package = types.ModuleType("horovod")
    package.torch = stub  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "horovod", package)
    monkeypatch.setitem(sys.modules, "horovod.torch", stub)
    prepare_horovod(on_gpu=False)
    if version:
        prepare_horovod(on_gpu=True)
    else:
        with pytest.raises(UsageError, match="built without NCCL .* choose torch or mpi"):
            prepare_horovod(on_gpu=True)


LINE = "7f0-7f1 r-xp 00000000 00:1 5    /usr/lib/{}\n"


def test_two_mpi_libraries_in_one_process_are_refused(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.write_text(LINE.format("libmpi.so.40.40.7") * 2 + LINE.format("libmpi_cxx.so.40") + LINE.format("libm.so.6"))
    check_same_mpi(maps)
    maps.write_text(LINE.format("libmpi.so.40") + LINE.format("libmpich.so.12.2.2"))
    with pytest.raises(UsageError, match=r"libmpi.so.40 and libmpich.so.12.2.2 are loaded"):
        check_same_mpi(maps)


@pytest.mark.parametrize("variables", [{}, {"HOROVOD_CONTROLLER": ""}, {"HOROVOD_CPU_OPERATIONS": "MPI"}])
def test_settings_that_horovod_starts_with(variables: dict[str, str]) -> None:
    check_settings(variables)


@pytest.mark.parametrize("name", ["HOROVOD_CONTROLLER", "HOROVOD_CPU_OPERATIONS"])
def test_settings_that_would_end_the_process(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is nonsense: Horovod over MPI wants mpi"):
        check_settings({name: "nonsense"})


@pytest.mark.parametrize(
    ("variable", "value", "right"),
    [
        ("GLOO_SOCKET_IFNAME", "lo", True),
        ("GLOO_SOCKET_IFNAME", "", True),
        ("GLOO_SOCKET_IFNAME", "ib0", False),
        ("GLOO_SOCKET_IFNAME", "l", False),
        ("GLOO_SOCKET_IFNAME", "lo,ib0", False),
        ("NCCL_SOCKET_IFNAME", "l", True),
        ("NCCL_SOCKET_IFNAME", "=l", False),
        ("NCCL_SOCKET_IFNAME", "=lo", True),
        ("NCCL_SOCKET_IFNAME", "ib,lo", True),
        ("NCCL_SOCKET_IFNAME", "^docker", True),
        ("NCCL_SOCKET_IFNAME", "ib", False),
    ],
)
def test_interfaces_of_this_host(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, right: bool) -> None:
    monkeypatch.setattr("socket.if_nameindex", lambda: [(1, "lo"), (2, "eth0")])
    monkeypatch.setenv(variable, value)
    if right:
        check_interfaces(variable)
    else:
        with pytest.raises(UsageError, match=f"{variable} is {value}, but .* choose of lo, eth0"):
            check_interfaces(variable)
