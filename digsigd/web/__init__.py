"""Bytes on the wire: forms streamed into a work directory, who is calling, and the answers."""
