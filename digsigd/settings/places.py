"""Files and folders that settings name: work directories, and files with one secret."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from digsigd.config_files import read_secret_text
from digsigd.settings.errors import SettingsError
from digsigd.settings.tables import Settings


def workdir_of(settings: Settings, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for work directories: the setting, else systemd's RUNTIME_DIRECTORY, else `own_workdir`."""
    # systemd separates several runtime directories by a colon: systemd.exec(5), RuntimeDirectory.
    runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return settings.daemon.workdir or (Path(runtime) if runtime else own_workdir())


def own_workdir() -> Path:
    """Return the default folder for work directories: private to this user, in the temporary directory.

    It is not in XDG_RUNTIME_DIR, which is removed when the user logs out, while a daemon may stay. Its name does not
    begin with `digsigd-`: earlier releases removed everything with that prefix from the temporary directory.
    """
    return Path(tempfile.gettempdir(), f"digsigd.{os.geteuid()}")


def state_folder_of(settings: Settings, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for what must outlive the daemon: the setting, systemd's STATE_DIRECTORY, or this user's own.

    The user's own is `digsigd` in XDG_STATE_HOME or ~/.local/state.
    """
    state = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if settings.record.folder is not None or state:
        return settings.record.folder or Path(state)
    home = environ.get("XDG_STATE_HOME", "")
    base = Path(home) if Path(home).is_absolute() else Path("~/.local/state").expanduser()
    return base / "digsigd"


def read_secret(path: Path, key: str) -> str:
    """Return the secret in a file, without the newline at its end.

    Raises `SettingsError` with `key` if it cannot be read or is not one line of text. The error never shows it.
    """
    try:
        text = read_secret_text(path)
    except ValueError as error:
        raise SettingsError(f"{key}: {error}") from None
    if not text or not text.isprintable():
        raise SettingsError(f"{key}: {path} must hold only the secret, in one line")
    return text
