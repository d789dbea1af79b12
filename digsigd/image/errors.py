"""What is wrong with an image."""

from __future__ import annotations

from digsigd import Error


class ImageError(Error):
    """An image that is not known for certain. `what` says what was seen and where, `hint` what to do about it."""
