"""One request from its CSF description to a verified CSF blob."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from twisted.logger import Logger

from digsigd import csf, hab
from digsigd.errors import BadRequest, BadTarball, CstFailed, CstTimeout, Refused, VerificationFailed
from digsigd.keys import Keys, KeyStore
from digsigd.signing.cst import CstRun, CstRunner, Limits
from digsigd.signing.line import Line
from digsigd.signing.request import Signed, SigningRequest
from digsigd.signing.threads import InThread
from digsigd.signing.tools import CstTools
from digsigd.signing.workdir import Workdir

DESCRIPTION = "description.csf"
BLOB = "csf.bin"
ARTIFACT = "artifact"
# A blob holds a table, two certificates and signatures: tens of kB. Whatever is larger is not one.
MAX_BLOB = 1 << 20
# From here on it pays to compute the digest beside cst instead of after it.
LARGE = 1 << 20
# Parsing is linear; beyond this it is work for a thread, so that nobody else waits for it.
LONG_TEXT = 16 << 10
"""

"""
