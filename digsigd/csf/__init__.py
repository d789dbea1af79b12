"""CSF descriptions: parse, check, resolve and write them. Pure: no I/O, and of the rest of digsigd only `hab`."""

from digsigd.csf.errors import CsfError, CsfKeyError, CsfNameError, CsfPolicyError, CsfSyntaxError
from digsigd.csf.model import Block, Command, Description
from digsigd.csf.parser import parse
from digsigd.csf.policy import ALLOWABLE, Policy, check
from digsigd.csf.resolve import FileNeeded, Resolved, resolve
from digsigd.csf.uri import KeyUri
from digsigd.csf.writer import write

__all__ = [
    "ALLOWABLE",
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
    "check",
    "parse",
    "resolve",
    "write",
]
