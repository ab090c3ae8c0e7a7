"""Every tutorial does what it says: its commands are run in order, and print what it shows."""

import pathlib

import pytest

from tests.docs.reader import new_reader
from tests.docs.tutorial import Step, steps, tutorials


def quick(page: pathlib.Path) -> list[Step]:
    """The steps before the first slow one."""
    found = steps(page.read_text())
    slow = [index for index, step in enumerate(found) if step.slow]
    return found[: slow[0]] if slow else found


def is_run(step: Step) -> bool:
    return not step.file and not step.not_run


def follow(page_steps: list[Step], page: pathlib.Path, folder: pathlib.Path) -> None:
    reader = new_reader(folder)
    for step in page_steps:
        if not step.not_run:
            unlike = reader.follow(step)
            assert not unlike, f"{page.name}, line {step.line}: {unlike}"


QUICK = [page for page in tutorials() if any(map(is_run, quick(page)))]
SLOW = [page for page in tutorials() if any(step.slow for step in steps(page.read_text()))]


@pytest.mark.parametrize("page", QUICK, ids=lambda page: page.stem)
def test_what_is_quick_in_a_tutorial_does_what_it_says(page, tmp_path):
    follow(quick(page), page, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=lambda page: page.stem)
def test_a_whole_tutorial_does_what_it_says(page, tmp_path):
    follow(steps(page.read_text()), page, tmp_path)


def test_every_tutorial_has_steps():
    assert tutorials()
    assert [page.name for page in tutorials() if not steps(page.read_text())] == []
