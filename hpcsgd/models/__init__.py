"""Networks, built from a ``ModelConfig``."""

from hpcsgd.models.build import build_model

__all__ = ["build_model"]
