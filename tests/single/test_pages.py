"""How commands of pages are found and held to what they say; the tests under mpirun run them."""

from __future__ import annotations

import pytest

from tests.pages.run import ELSEWHERE, FIRST, ROOT, SMALLER, TUTORIAL, unlike
from tests.pages.text import Block, blocks, files

PAGES = {page: (ROOT / page).read_text(encoding="utf-8") for page in (FIRST, TUTORIAL)}


def test_commands_that_are_not_run_as_they_stand_are_on_the_pages_and_run_somewhere() -> None:
    shown = [command for text in PAGES.values() for block in blocks(text) for command in block.commands]
    assert sorted({*ELSEWHERE, *SMALLER} - {*shown}) == []
    assert [place for place in ELSEWHERE.values() if not (ROOT / place).is_file()] == []


def test_the_files_that_the_tutorial_shows_are_beside_it() -> None:
    found = files(PAGES[TUTORIAL])
    assert sorted(found) == sorted(path.name for path in (ROOT / TUTORIAL).parent.glob("*.[py]*"))
    for name, text in found.items():
        file = (ROOT / TUTORIAL).with_name(name).read_text(encoding="utf-8")
        # A recipe begins with a comment of its own.
        assert file.endswith(text) and all(line.startswith("#") for line in file.removesuffix(text).splitlines()), name


def test_a_block_is_its_commands_and_what_they_say() -> None:
    text = "```sh\n# why\none --a 1 \\\n    --b 2   # how\ntwo\n```\n\n```\nsaid\n```\n\nmore\n\n```sh\nthree\n```\n"
    assert list(blocks(text)) == [Block(("one --a 1 --b 2", "two"), ("said",)), Block(("three",), ())]


SAID = """\
step 32: loss 0.5, 1,797 samples/s
wrote a.png
| run | num_ranks | wait_share |
| --- | --------: | ---------: |
| one |         2 |      0.047 |
"""


@pytest.mark.parametrize(
    ("shown", "line"),
    [
        ("step 32: loss 0.25, 2 samples/s\n...", ""),
        ("...\nwrote a.png\n...\n| one | num_ranks |", "| one | num_ranks |"),
        ("...\n| run | wait_share |\n| --- | ---: |\n| one | 0 |", ""),
        ("...\n| num_ranks |\n| ---: |\n| 3 |", "| 3 |"),
        ("step 33: loss 0.5, 1,797 samples/s\n...", "step 33: loss 0.5, 1,797 samples/s"),
        ("step 32: loss 0.5, 1,797 samples/s\n| run |\n...", "| run |"),
        ("step 32: loss 0.5, 1,797 samples/s", "(the end; there is more: wrote a.png)"),
    ],
)
def test_what_is_shown_must_be_said_but_for_what_is_measured(shown: str, line: str) -> None:
    assert unlike(shown.splitlines(), SAID) == line
