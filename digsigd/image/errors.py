"""The base of all errors of images."""

from __future__ import annotations

from digsigd import Error


class ImageError(Error):
    """An image that is damaged, unsupported or ambiguous. `what` says what was found and where, `hint` what to do."""
