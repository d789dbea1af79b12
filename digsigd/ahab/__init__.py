"""AHAB's containers, SRK tables and their verification. Pure: bytes in, values out, no I/O."""

from digsigd.ahab.build import SrkKey, build_srk_array, build_srk_table, key_of, srk_key
from digsigd.ahab.chips import (
    CHIPS,
    AhabChip,
    FuseWord,
    Refused,
    Rule,
    Unconfirmed,
    chip,
    chip_with,
    fuse_value,
    fuse_words,
)
from digsigd.ahab.errors import AhabError, FormatError, NotConfirmed, VerificationError
from digsigd.ahab.find import find
from digsigd.ahab.images import Digest
from digsigd.ahab.model import Blob, Buffer, Certificate, Container, ImageEntry, SignatureBlock, SrkSet, Tag
from digsigd.ahab.read import parse, read_header
from digsigd.ahab.splice import check_room, check_unchanged, spliced, stub
from digsigd.ahab.srk import SrkArray, SrkData, SrkRecord, SrkTable, TableV2, parse_table
from digsigd.ahab.verify import Verified, verify
from digsigd.ahab.write import ContainerImage, build_container, build_file, place_images

__all__ = [
    "CHIPS",
    "AhabChip",
    "AhabError",
    "Blob",
    "Buffer",
    "Certificate",
    "Container",
    "ContainerImage",
    "Digest",
    "FormatError",
    "FuseWord",
    "ImageEntry",
    "NotConfirmed",
    "Refused",
    "Rule",
    "SignatureBlock",
    "SrkArray",
    "SrkData",
    "SrkKey",
    "SrkRecord",
    "SrkSet",
    "SrkTable",
    "TableV2",
    "Tag",
    "Unconfirmed",
    "VerificationError",
    "Verified",
    "build_container",
    "build_file",
    "build_srk_array",
    "build_srk_table",
    "check_room",
    "check_unchanged",
    "chip",
    "chip_with",
    "find",
    "fuse_value",
    "fuse_words",
    "key_of",
    "parse",
    "parse_table",
    "place_images",
    "read_header",
    "spliced",
    "srk_key",
    "stub",
    "verify",
]
