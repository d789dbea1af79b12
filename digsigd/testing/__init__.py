"""Throw-away keys and images for HAB4 and AHAB, for demonstrations, tests and benchmarks. Not for real boards."""

from digsigd.testing.ahab_image import TrialAhabImage
from digsigd.testing.ahab_pki import TrialAhabPki
from digsigd.testing.image import TrialImage
from digsigd.testing.pki import TrialPki

__all__ = ["TrialAhabImage", "TrialAhabPki", "TrialImage", "TrialPki"]
