"""A description to change, line by line."""

from __future__ import annotations

BASE = """\
[Header]
Version = 4.3
[Install SRK]
File = "SRK_1_2_3_4_table.bin"
Source index = 0
[Install CSFK]
File = "CSF1_1_sha256_2048_65537_v3_usr_crt.pem"
[Authenticate CSF]
[Unlock]
Engine = CAAM
Features = MID
[Install Key]
Verification index = 0
Target index = 2
File = "IMG1_1_sha256_2048_65537_v3_usr_crt.pem"
[Authenticate Data]
Verification index = 2
Blocks = 0x7e0fc0 0x0 0x2000 "flash.bin"
"""
FAST = """\
[Header]
Version = 4.3
[Install SRK]
File = "SRK_1_2_3_4_table.bin"
Source index = 0
[Install NOCAK]
File = "SRK1_sha256_2048_65537_v3_usr_crt.pem"
[Authenticate CSF]
[Authenticate Data]
Verification index = 0
Blocks = 0x7e0fc0 0x0 0x2000 "flash.bin"
"""
BLOCK = '0x7e0fc0 0x0 0x2000 "flash.bin"'


def lines(first: int, last: int, text: str = BASE) -> str:
    """Lines `first` to `last`, counted from 1."""
    return "".join(text.splitlines(keepends=True)[first - 1 : last])


def changed(old: str, new: str, text: str = BASE) -> str:
    """The text with the only place where `old` stands changed; with no `old`, `new` goes to the end."""
    if not old:
        return text + new
    assert text.count(old) == 1, old
    return text.replace(old, new)
