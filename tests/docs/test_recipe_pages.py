"""Each recipe has a page, and each page says what it has to: when, what is guaranteed, the znodes, what a loss does, an
example, and what it is in kazoo's terms. That the code runs is `test_snippets`' business.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ..architecture.tree import ROOT
from ..recipes.test_every_recipe import RECIPES
from .snippets import find_chains

_FOLDER = ROOT / "docs" / "recipes"
_OF_ALL = {"index.md", "known-faults.md"}
_PARTS = (
    r"^\*\*When:\*\* \S",
    r"^\*\*Guarantee:\*\* \S",
    r"^## Znodes$",
    r"^## Suspension and loss$",
    r"^## In kazoo's terms$",
)
PAGES = sorted(path for path in _FOLDER.glob("*.md") if path.name not in _OF_ALL)


def missing_parts(name: str, text: str) -> list[str]:
    """What a page does not say, as patterns; or that it has no example, or that a part is empty."""
    found = [part for part in _PARTS if not re.search(part, text, re.MULTILINE)]
    if not find_chains(name, text):
        found.append("an example that runs")
    if re.search(r"^## .*\n+(?=## |\Z)", text, re.MULTILINE):
        found.append("something under each heading")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_says_what_it_has_to(page: Path) -> None:
    assert missing_parts(page.name, page.read_text(encoding="utf-8")) == []


def test_what_a_page_does_not_say_is_found() -> None:
    page = "# Lock\n\n**When:** one.\n\n**Guarantee:** one.\n\n```python\nx = 1\n```\n\n## Znodes\n\nA.\n\n"
    rest = "## Suspension and loss\n\nB.\n\n## In kazoo's terms\n\nC.\n"
    assert missing_parts("a.md", page + rest) == []
    assert missing_parts("a.md", page.replace("**When:** one.", "") + rest) == [_PARTS[0]]
    assert missing_parts("a.md", page.replace("```python", "```text") + rest) == ["an example that runs"]
    assert missing_parts("a.md", page + rest.replace("B.\n", "")) == ["something under each heading"]


def test_every_recipe_is_in_the_title_of_a_page() -> None:
    titles = " ".join(page.read_text(encoding="utf-8").partition("\n")[0] for page in PAGES)
    missing = [recipe for recipe in RECIPES if not re.search(rf"\b{recipe}\b", titles)]
    assert not missing


def test_every_page_is_in_the_list() -> None:
    listed = (_FOLDER / "index.md").read_text(encoding="utf-8")
    for page in _FOLDER.glob("*.md"):
        assert page.name == "index.md" or re.search(rf"^{page.stem}$", listed, re.MULTILINE), page.name
