"""The pages: every one is found from an index, and every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]


def links(page: Path) -> list[str]:
    """Return the targets of a page's links within the project."""
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    targets = re.findall(r"\]\(<?([^)>]+?)>?\)", prose)
    return [target for target in targets if not re.match(r"https?:|mailto:", target)]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("index", ["README.md", "metrics/README.md"])
def test_an_index_names_every_page_of_its_folder(index):
    page = DOCS / index
    named = {link.partition("#")[0] for link in links(page)}
    assert {p.name for p in page.parent.glob("*.md")} - named <= {"README.md"}


def test_links_lead_to_files_and_headings():
    broken = []
    for page in PAGES:
        for link in links(page):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            right = target.exists() and (not anchor or anchor in anchors(target))
            broken += [] if right else [f"{page.relative_to(ROOT)}: {link}"]
    assert not broken


def test_the_citation_has_what_its_format_requires():
    """Of the Citation File Format 1.2.0: these keys, and names of one kind for each author."""
    import yaml

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"] and citation["title"] and citation["authors"]
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'version = "{citation["version"]}"' in project and citation["license"] in project
    assert all({"name", "family-names"} & author.keys() for author in citation["authors"])
