"""Whether MPI takes GPU buffers, with MPIs that say yes, no and nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hpcsgd.comm import cuda_aware
from hpcsgd.comm.backends import make_mpi_reducer
from hpcsgd.comm.cuda_aware import VARIABLES, said_by_mpi
from hpcsgd.config import CommConfig
from hpcsgd.errors import UsageError
from tests.single.comm.counting import CountingCommunicator

SAYS_YES = SimpleNamespace(MPIX_Query_cuda_support=lambda: 1)
SAYS_NO = SimpleNamespace(MPIX_Query_cuda_support=lambda: 0)
SAYS_NOTHING = SimpleNamespace()


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("library", "environment", "said"),
    [
        (SAYS_YES, {}, True),
        (SAYS_NO, {}, False),
        (SAYS_NOTHING, {}, None),
        (SAYS_NOTHING, {"MPICH_GPU_SUPPORT_ENABLED": "1"}, True),
        (SAYS_YES, {"MPICH_GPU_SUPPORT_ENABLED": "0"}, False),
        (SAYS_NO, {"MV2_USE_CUDA": "1"}, True),
    ],
)
def test_mpi_is_asked_first(
    monkeypatch: pytest.MonkeyPatch, library: Any, environment: dict[str, str], said: bool | None
) -> None:
    monkeypatch.setattr(cuda_aware, "mpi_library", lambda: library)
    assert said_by_mpi(environment) is said


@pytest.mark.parametrize(("library", "why"), [(SAYS_NO, "says that it takes no"), (SAYS_NOTHING, "does not say")])
def test_an_mpi_that_does_not_say_yes_gets_no_gpu_buffer(
    monkeypatch: pytest.MonkeyPatch, library: Any, why: str
) -> None:
    monkeypatch.setattr(cuda_aware, "mpi_library", lambda: library)
    comm = CountingCommunicator(2)
    with pytest.raises(UsageError, match=f"comm.cuda_aware is true, but counting {why}"):
        make_mpi_reducer(CommConfig(cuda_aware=True), comm, torch.device("cuda", 0))
    assert not [call for call in comm.take() if call.name == "sum"]


def test_one_that_does_is_tried_with_as_many_bytes_as_will_be_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_aware, "mpi_library", lambda: SAYS_YES)
    tried: list[int] = []
    monkeypatch.setattr(cuda_aware, "probe", lambda comm, device, num_bytes: bool(tried.append(num_bytes)))
    with pytest.raises(UsageError, match="did not sum a GPU buffer"):
        make_mpi_reducer(CommConfig(cuda_aware=True), CountingCommunicator(2), torch.device("cuda", 0))
    assert tried == [CommConfig().chunk_bytes]
