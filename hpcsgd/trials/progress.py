"""What rank 0 says while a study goes on: trials done, by batch size, and the time left."""

from __future__ import annotations

from collections.abc import Mapping

from hpcsgd.record.look import in_words


def study_figures(trials: Mapping[int, int], done: Mapping[int, int], left: float | None) -> list[str]:
    """How far a study is, most important first.

    Args:
        trials: how many there are at each batch size.
        done: how many of them are done.
        left: seconds to the end; None: not known yet.
    """
    full = sum(done[size] == total for size, total in trials.items())
    ending = f"about {in_words(left)} left" if left is not None else "time left not known yet"
    begun = (f"batch size {size}: {done[size]}/{total}" for size, total in trials.items() if 0 < done[size] < total)
    return ["done" if full == len(trials) else ending, f"{full} of {len(trials)} batch sizes done", *begun]
