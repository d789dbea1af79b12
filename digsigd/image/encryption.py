"""Detect encrypted parts of an image: each chip wraps their key for itself, so no host can read them.

Sources: HABv4 API Reference Manual, 4.3.7 "Install Key" (HAB_PCL_BLOB) and 4.3.8 "Authenticate Data" (HAB_PCL_AEAD);
uboot-imx, doc/imx/habv4/guides/mx8m_encrypted_boot.txt (the blob with the key is CSF_SIZE after the start of the
CSF that the ROM runs, and is put there on the board).
"""

from __future__ import annotations

from digsigd.hab import csf_blob

KEY_ROOM = 0x60  # DEK_BLOB_MAX_SIZE of mkimage_imx8.c
_BLOB_TAG = 0x81  # HAB_TAG_WRP
_SMALLEST_BLOB = 0x40


def encrypted_by(commands: bytes) -> str | None:
    """Return the command at the start of a CSF that is for encrypted boot only, or None."""
    for command in csf_blob.walk(commands, strict=False):
        match command:
            # For a damaged command, the first byte is enough.
            case csf_blob.InstallKey(protocol=csf_blob.BLOB):
                return "Install Secret Key"
            case csf_blob.Authenticate(protocol=csf_blob.AEAD):
                return "Decrypt Data"
            case csf_blob.OtherCommand(tag=csf_blob.INSTALL_KEY) if command.body[:1] == bytes([csf_blob.BLOB]):
                return "Install Secret Key"
            case csf_blob.OtherCommand(tag=csf_blob.AUTHENTICATE) if command.body[1:2] == bytes([csf_blob.AEAD]):
                return "Decrypt Data"
    return None


def key_length(data: bytes) -> int:
    """Return the length in bytes of the key blob at the start of `data`; 0 without one."""
    length = int.from_bytes(data[1:3], "big")
    is_blob = data[:1] == bytes([_BLOB_TAG]) and len(data) > 3 and data[3] & 0xF0 == 0x40
    return length if is_blob and _SMALLEST_BLOB <= length <= KEY_ROOM else 0
