"""What errors say."""

from __future__ import annotations

import pytest

from hpcsgd.errors import is_out_of_memory


@pytest.mark.parametrize(
    ("text", "always", "tried"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB", True, True),
        ("HIP out of memory", True, True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True, True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True, True),
        ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", False, True),
        ("GET was unable to find an engine to execute this computation", False, True),
        ("NCCL error: unhandled cuda error (run with NCCL_DEBUG=INFO for details)", False, True),
        ("mat1 and mat2 shapes cannot be multiplied", False, False),
    ],
)
def test_memory_that_ran_out_in_the_words_of_a_gpus_libraries(text: str, always: bool, tried: bool) -> None:
    error = RuntimeError(text)
    assert (is_out_of_memory(error), is_out_of_memory(error, tried=True)) == (always, tried)
