"""Errors of descriptions: what they say, and how a client's own text stands in them."""

from __future__ import annotations

import pytest

from digsigd import csf
from digsigd.csf.errors import quoted


def test_an_error_says_where_what_and_what_to_do() -> None:
    """Together for people, and each for programs."""
    error = csf.CsfPolicyError("it is too much", 3, 7, hint="take less")
    assert str(error) == "line 3, column 7: it is too much; take less"
    assert (error.what, error.line, error.column, error.hint) == ("it is too much", 3, 7, "take less")
    assert str(csf.CsfSyntaxError("it is none", 3)) == "line 3: it is none"
    assert str(csf.CsfNameError("it is gone")) == "it is gone"


@pytest.mark.parametrize("length", [1, 59, 60])
def test_a_text_of_60_characters_is_shown_whole(length: int) -> None:
    """In quotation marks."""
    assert quoted("n" * length) == f'"{"n" * length}"'


def test_of_a_longer_text_the_middle_is_left_out() -> None:
    """Its end tells more."""
    assert quoted("a" * 17 + "b" * 4 + "c" * 40) == f'"{"a" * 17}...{"c" * 40}"'


def test_control_characters_are_not_shown() -> None:
    """They would do something to a terminal."""
    shown = quoted("a\x1b[2J\nb")
    assert "\x1b" not in shown
    assert "\n" not in shown
