"""The error of a wrong configuration."""

from __future__ import annotations

from digsigd import Error


class SettingsError(Error):
    """Mistakes in the configuration, one line each, with the file or variable, the key, and the expected value."""

    def diagnostics(self) -> str:
        """Return the mistakes, one line each, then the hint, indented."""
        return "\n".join([*self.what.splitlines(), *(f"  {line}" for line in self.hint.splitlines())])
