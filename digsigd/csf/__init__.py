"""CSF descriptions: parse, check, resolve and write them. Pure: no I/O, and of the rest of digsigd only `hab`."""

from digsigd.csf import ahab
from digsigd.csf.errors import CsfError, CsfKeyError, CsfNameError, CsfPolicyError, CsfSyntaxError
from digsigd.csf.finding import FileNeeded
from digsigd.csf.model import Block, Command, Description
from digsigd.csf.parser import parse
from digsigd.csf.policy import ALLOWABLE, ALLOWABLE_OF_AHAB, ALLOWABLE_UNLOCKS, Policy, check
from digsigd.csf.resolve import Resolved, resolve
from digsigd.csf.uri import KeyUri
from digsigd.csf.writer import write

__all__ = [
    "ALLOWABLE",
    "ALLOWABLE_OF_AHAB",
    "ALLOWABLE_UNLOCKS",
    "Block",
    "Command",
    "CsfError",
    "CsfKeyError",
    "CsfNameError",
    "CsfPolicyError",
    "CsfSyntaxError",
    "Description",
    "FileNeeded",
    "KeyUri",
    "Policy",
    "Resolved",
    "ahab",
    "check",
    "parse",
    "resolve",
    "write",
]
