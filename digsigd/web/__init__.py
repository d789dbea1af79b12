"""The HTTP side: forms streamed into a work directory, callers, and answers."""
