"""Every document is in the index, and every link leads somewhere."""

import re

import pytest

from tests.docs.tutorial import ROOT

DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *sorted(DOCS.rglob("*.md"))]
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s#]+)(#[^)]*)?\)")


def linked(page: str) -> set[str]:
    return {match["target"] for match in _LINK.finditer(page) if "://" not in match["target"]}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page):
    assert [target for target in linked(page.read_text()) if not (page.parent / target).exists()] == []


def test_every_document_is_in_the_index():
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*") if path.is_file()}
    assert there - linked((DOCS / "README.md").read_text()) == {"README.md"}
