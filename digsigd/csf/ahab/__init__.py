"""CSF descriptions for AHAB: tell, parse, check, resolve and write them. Pure, like `digsigd.csf`."""

from digsigd.csf.ahab.model import AuthenticateData, Command, Description, Header, InstallCertificate, InstallSrk
from digsigd.csf.ahab.parser import is_ahab, parse
from digsigd.csf.ahab.policy import check
from digsigd.csf.ahab.resolve import Resolved, resolve
from digsigd.csf.ahab.writer import write

__all__ = [
    "AuthenticateData",
    "Command",
    "Description",
    "Header",
    "InstallCertificate",
    "InstallSrk",
    "Resolved",
    "check",
    "is_ahab",
    "parse",
    "resolve",
    "write",
]
