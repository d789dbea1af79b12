"""Pages of the daemon as trees: parsed strictly, so that anything that is not escaped shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import httpx

HTML = {"Accept": "text/html,application/xhtml+xml"}


class Page:
    """A page, parsed. What is not well-formed fails."""

    def __init__(self, answer: httpx.Response | bytes) -> None:
        body = answer if isinstance(answer, bytes) else answer.content
        assert body.startswith(b"<!DOCTYPE html>\n")
        self.source = body.decode()
        self.root = ET.fromstring(body.split(b"\n", 1)[1])  # noqa: S314 - from a daemon of ours

    @property
    def text(self) -> str:
        """All that can be read, on one line."""
        return text_of(self.root.find("body"))

    @property
    def title(self) -> str:
        """The heading of the page."""
        return text_of(next(self.root.iter("h1")))

    def table(self, caption: str) -> list[list[str]]:
        """The rows of a table, by what it is called; none if there is no such table."""
        for table in self.root.iter("table"):
            if text_of(table.find("caption")) == caption:
                body = table.find("tbody")
                assert body is not None
                return [[text_of(cell) for cell in row] for row in body]
        return []

    def facts(self) -> dict[str, str]:
        """Names and values of all lists of facts."""
        return {
            text_of(one.find("dt")): text_of(one.find("dd"))
            for one in self.root.iter("div")
            if one.find("dt") is not None
        }

    def links(self) -> list[str]:
        """Where links lead."""
        return [one.get("href", "") for one in self.root.iter("a")]

    def elements(self) -> Iterator[ET.Element]:
        """All elements."""
        return self.root.iter()


def text_of(element: ET.Element | None) -> str:
    """What can be read in an element, on one line."""
    return "" if element is None else re.sub(r"\s+", " ", "".join(element.itertext())).strip()
