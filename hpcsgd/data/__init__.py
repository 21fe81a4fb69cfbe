"""Data sets, the shards of an epoch, and loaders that hold a whole split on a device.

``sets`` has a module for each data set. ``dataset``, ``sets``, ``places``, ``shards`` and ``fetch`` need only numpy;
``loader`` needs torch.
"""
