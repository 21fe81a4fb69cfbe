"""A run's log in the formats of other tools: pure functions of what :func:`hpcsgd.record.reader.load_run` gives."""
