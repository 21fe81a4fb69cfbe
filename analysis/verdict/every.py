"""The verdict: what all runs and studies say in three sentences, and what else can be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from runs.logs import Entry
from tables.parts import part_table
from verdict.accuracy import accuracy_sentence
from verdict.sentence import Sentence
from verdict.sizes import scaling_sentence, study_sentences
from verdict.times import bound_sentence, gain_sentence

MOST = 3
"""Sentences that a report opens with."""


def verdict(entries: Sequence[Entry], tables: Mapping[str, pd.DataFrame], skip: int) -> list[Sentence]:
    """All sentences, what is known first; a report opens with the first three.

    Args:
        entries: the runs; may be none.
        tables: by name, as the chapters write them: of runs ``learning_evaluations`` and ``scaling_runs``, of studies
            ``shallue_results`` and ``shallue_regimes``; what is not there was not drawn.
        skip: iterations after each start of a run that are left out.
    """
    nothing = pd.DataFrame()
    of_runs = []
    if entries:
        parts = part_table(entries, skip)
        scaling = scaling_sentence(entries, tables.get("scaling_runs", nothing))
        of_runs = [
            accuracy_sentence(entries, tables.get("learning_evaluations", nothing)),
            bound_sentence(entries, parts),
            *sorted((scaling, gain_sentence(entries, parts)), key=lambda sentence: not sentence.known),
        ]
    of_studies = []
    if "shallue_results" in tables:
        of_studies = study_sentences(tables["shallue_results"], tables.get("shallue_regimes", nothing))
    # Of both, one of the three is on studies.
    found = [*of_runs[: MOST - 1], *of_studies[:1], *of_runs[MOST - 1 :], *of_studies[1:]] if of_runs else of_studies
    return sorted(found, key=lambda sentence: not sentence.known)
