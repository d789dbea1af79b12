"""Descriptions for AHAB to change, line by line."""

from __future__ import annotations

TABLE = "SRK_1_2_3_4_table.bin"
SRK = "SRK1_sha384_secp384r1_v3_ca_crt.pem"
SGK = "SGK1_1_sha384_secp384r1_v3_usr_crt.pem"
# Without and with an SGK, for containers of version 0 and 2.
BASE = f"""\
[Header]
Target = AHAB
Version = 1.0
[Install SRK]
File = "{TABLE}"
Source = "{SRK}"
Source index = 0
Source set = OEM
Revocations = 0x0
[Authenticate Data]
File = "flash.bin"
Offsets = 0x400 0x490
"""
_CERTIFICATE = f"""\
[Install Certificate]
File = "{SGK}"
Permissions = 0x1
"""
WITH_SGK = BASE.replace("[Authenticate Data]", f"{_CERTIFICATE}[Authenticate Data]")
V2 = WITH_SGK.replace("Version = 1.0", "Version = 2.0")


def another(offsets: str, file: str = "flash.bin") -> str:
    """An [Authenticate Data] of three lines."""
    return f'[Authenticate Data]\nFile = "{file}"\nOffsets = {offsets}\n'
