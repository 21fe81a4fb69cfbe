"""Networks, built from a ``ModelConfig``."""

from hpcsgd.models.build import build_model, check_none_made, check_passes

__all__ = ["build_model", "check_none_made", "check_passes"]
