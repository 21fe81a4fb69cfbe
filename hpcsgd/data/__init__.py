"""Data sets, the shards of an epoch, and loaders that hold a whole split on a device.

``dataset``, ``places``, ``shards`` and ``fetch`` need only numpy; ``loader`` needs torch.
"""
