"""Throw-away HAB4 keys and i.MX8M images, for demonstrations, tests and benchmarks. Never for a real board."""

from digsigd.trial.image import TrialImage
from digsigd.trial.pki import TrialPki

__all__ = ["TrialImage", "TrialPki"]
