"""Data-parallel training over MPI: synchronous and local SGD, every iteration of every rank timed.

Importing the package starts neither MPI nor torch.
"""

__version__ = "0.1.0"
