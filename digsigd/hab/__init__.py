"""HAB4's binary formats and their verification. Pure: bytes in, values out, no I/O."""

from digsigd.hab.csf_blob import CsfBlob, blob_length
from digsigd.hab.errors import FormatError, HabError, VerificationError
from digsigd.hab.ivt import Block, File, Ivt, Read, digest_blocks, find_ivts
from digsigd.hab.keystore import TRIAL, InstalledCertificate, general_notes_on, notes_on
from digsigd.hab.layout import Layout, check_layout, check_room
from digsigd.hab.srk import SrkRecord, SrkTable, build_srk_table
from digsigd.hab.verify import DataDigest, Verified, subject_of, verify, wanted

__all__ = [
    "TRIAL",
    "Block",
    "CsfBlob",
    "DataDigest",
    "File",
    "FormatError",
    "HabError",
    "InstalledCertificate",
    "Ivt",
    "Layout",
    "Read",
    "SrkRecord",
    "SrkTable",
    "VerificationError",
    "Verified",
    "blob_length",
    "build_srk_table",
    "check_layout",
    "check_room",
    "digest_blocks",
    "find_ivts",
    "general_notes_on",
    "notes_on",
    "subject_of",
    "verify",
    "wanted",
]
