"""Images that a board boots: their parts, what has to be signed, and where the signatures go.

Pure: bytes in, values out; no I/O, and of the rest of digsigd only `hab`.
"""
