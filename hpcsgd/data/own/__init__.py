"""A user's own data: what ``data.name: package.module.Name`` makes, or what a program brings with it.

The class or function gives the splits by their names ``train``, ``test`` and ``val``: a mapping, or an object that has
them as attributes. It may have ``classes``: their names, or how many there are. A split is one of three kinds.

- *Arrays*: a tuple of inputs and targets, each a NumPy array, a tensor, or a tree of them, [samples, ...]; or torch's
  ``TensorDataset`` of two tensors. They are held on the device. What is floating-point is brought to the run's type.
- A torch *Dataset* (``__getitem__`` and ``__len__``) of pairs of inputs and targets, read by worker processes, in
  hpcsgd's order. Before a sample is read, the generators of ``random``, NumPy and torch are seeded by (seed, epoch,
  sample), so that random augmentation repeats, whichever process reads it.
- *Iterable data with a state*: ``__iter__`` gives pairs of inputs and targets, and ``state_dict`` and
  ``load_state_dict`` keep the place. Where there are several learners, ``shard(index, count)`` gives the part of one.
"""
