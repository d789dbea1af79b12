"""Throw-away HAB4 keys and i.MX8M images for demonstrations, tests and benchmarks. Do not use them for real boards."""

from digsigd.testing.image import TrialImage
from digsigd.testing.pki import TrialPki

__all__ = ["TrialImage", "TrialPki"]
