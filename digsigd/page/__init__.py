"""The HTML of the page for people, from values. It does no I/O and decides nothing about rights."""
