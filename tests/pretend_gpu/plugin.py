"""Run ordinary tests with a GPU: ``python -m pytest -p tests.pretend_gpu.plugin -m gpu tests/single``."""

from __future__ import annotations

from tests.pretend_gpu.activate import activate

# pytest imports its plugins before any test, and so before torch.
activate()
