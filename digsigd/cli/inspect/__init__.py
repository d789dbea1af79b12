"""`digsign inspect`: show what a file is, from its contents."""

from __future__ import annotations

import argparse
import json
import mmap
import warnings
from pathlib import Path

from digsigd.cli.console import Console, Trouble
from digsigd.cli.inspect.facts import Part, show
from digsigd.client._internal.files import mapped

HELP = """Show what a file is: an image (IVTs, boot data, DCD, CSFs, FITs), a CSF blob, an SRK table or fuse file, a key
tarball, a certificate, a CSF description, or a file for AHAB instead of HAB. digsign looks at the contents, not at the
name. Private keys and pass phrases are never shown. To check an image, use `digsign verify`.

The exit code is 1 if a part of the file is damaged; what can be read is shown even then.
"""
# More than any file but an image has: SRK tables have a 16-bit length, tarballs some 100 KiB.
_LARGEST_SMALL = 32 << 20
LARGEST_TABLE = 1 << 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `digsign inspect`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the file to inspect")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace, console: Console) -> int:
    """Inspect a file, print what is in it, and return the exit code. Raises `Trouble`."""
    with mapped(options.file) as data:
        part = inspect(data)
    if part is None:
        raise Trouble(
            f"{options.file} is not a file that digsign knows: not an image, CSF, SRK table, tarball or certificate",
            hint="decompress or decrypt the file first, if it is a compressed or encrypted image",
        )
    if options.json:
        console.say(json.dumps({"file": str(options.file), "damaged": part.damaged, **part.as_values()}, indent=2))
    else:
        show(part, console)
    return 1 if part.damaged else 0


def inspect(data: mmap.mmap | bytes) -> Part | None:
    """Return a description of a file's contents; None if they are unknown."""
    with warnings.catch_warnings():
        # cryptography warns about serial numbers below 1, which a damaged certificate can have.
        warnings.simplefilter("ignore")
        return _inspect(data)


def _inspect(data: mmap.mmap | bytes) -> Part | None:
    from digsigd.cli.inspect import ahab, ahab_keys, certificate, csf_blob, description, image, keys, tarball
    from digsigd.hab.ivt import IVT_SIZE, looks_like_ivt

    head = data[:4096]
    if looks_like_ivt(head[:IVT_SIZE]) or head[:4] == image.FDT_MAGIC or head[0x38:0x3C] == b"ARM\x64":
        return image.describe_image(data)
    if (found := ahab.describe_containers(data)) is not None:
        return found
    if len(data) == 32:
        return keys.describe_fuses(data[:])
    if len(data) <= _LARGEST_SMALL:
        if head[:2] == b"\x1f\x8b" or head[257:262] == b"ustar":
            return tarball.describe_tarball(data[:])
        if len(head) >= 4 and head[3] & 0xF0 == 0x40 and head[0] == 0xD4:
            return csf_blob.describe_csf(data[:])
        if len(head) >= 4 and head[3] & 0xF0 == 0x40 and head[0] == 0xD7:
            return keys.describe_table(data[:])
        if (found := ahab_keys.describe_srk_table(data[:LARGEST_TABLE])) is not None:
            return found
        if description.is_description(head):
            return description.describe_description(data[: description.LARGEST + 1])
        if b"\0" not in head and b"-----BEGIN " in (text := data[: keys.LARGEST_PEM]):
            return keys.describe_pem(text)
        if head[:1] == b"\x30":
            part = certificate.describe_certificate(data[: keys.LARGEST_PEM])
            if part.facts:
                return part
    found = image.describe_image(data)
    return found if found.parts else None
