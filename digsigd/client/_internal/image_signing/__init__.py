"""Signing a whole image: its keys, a CSF description for each part, the CSFs in their places, and the proof."""
