"""HAB4's binary formats and their verification. Pure: bytes in, values out."""

from digsigd.hab.errors import FormatError, HabError, VerificationError
from digsigd.hab.srk import SrkRecord, SrkTable, build_srk_table

__all__ = ["FormatError", "HabError", "SrkRecord", "SrkTable", "VerificationError", "build_srk_table"]
