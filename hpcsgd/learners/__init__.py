"""How many models train on a device.

:class:`~hpcsgd.learners.replica.Replica` is one model in flat buffers. :class:`~hpcsgd.learners.stack.ReplicaStack` is
m of them in buffers with a leading learner axis: each replica is a row. An engine (:mod:`hpcsgd.learners.engines`)
takes the passes of all learners of a stack: ``passes(batch, normalisers, size) -> losses`` and ``outputs(inputs)``. All
engines give the same result, and :func:`~hpcsgd.learners.engines.choose.choose_engine` times them.
:class:`~hpcsgd.optim.base.RowOptimizer` updates all rows.
"""
