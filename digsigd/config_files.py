"""Files of configuration, read the same way by the daemon and by the client: TOML, and files with one secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file. Raises `ValueError` with what is wrong, after the path."""
    # Imported late: `digsign --help` reads no file.
    import tomllib

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: is not TOML: {error}") from None


def read_secret_text(path: Path) -> str:
    """Return the text of a file with a secret, without the newline at its end. It can still be empty or several lines.

    Raises `ValueError` with what is wrong, after the path. The error never shows the secret.
    """
    try:
        return path.read_bytes().decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text") from None
