"""What is wrong with an image."""

from __future__ import annotations


class ImageError(Exception):
    """An image that is not known for certain. `what` says what was seen and where, `hint` what to do about it."""

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
