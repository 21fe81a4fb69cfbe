"""The HTML of the page: one file with its style, its script and its figures, which asks for nothing from outside."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from hpcsgd.record.summary import counted
from page.facts import provenance, study_facts, summary
from page.parts import Part
from runs.emulated import emulated_caption
from runs.logs import Entry
from runs.workloads import Workload
from verdict.every import MOST
from verdict.sentence import Sentence

FOLDER = Path(__file__).parent


def render(
    parts: Sequence[Part],
    entries: Sequence[Entry],
    studies: Sequence[Workload],
    problems: Sequence[str],
    sentences: Sequence[Sentence],
) -> str:
    """The page.

    Args:
        parts: the chapters as drawn.
        entries, studies: what they were drawn from.
        problems: one line for each that could not be read.
        sentences: the verdict; the page opens with the first three.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tables: Mapping[str, pd.DataFrame] = {name: frame for part in parts for name, frame in part.frames.items()}
    of_studies = f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}"
    made_of = " and ".join([*([counted(len(entries), "run")] if entries else []), *([of_studies] if studies else [])])
    return environment.get_template("report.html.j2").render(
        title="hpcsgd report",
        emulated=emulated_caption(entries),
        made=f"Made {time.strftime('%Y-%m-%d %H:%M %Z')} of {made_of}.",
        verdict=sentences[:MOST],
        further=sentences[MOST:],
        parts=parts,
        problems=problems,
        summary=summary(entries, tables) if entries else None,
        runs=[provenance(item) for item in entries],
        studies=[study_facts(item) for item in studies],
        style=(FOLDER / "report.css").read_text(encoding="utf-8"),
        script=(FOLDER / "report.js").read_text(encoding="utf-8"),
    )
