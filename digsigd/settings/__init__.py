"""The settings of a daemon: names, types and defaults. Read them from a TOML file and the environment."""

from digsigd.settings.endpoints import is_local, with_backlog
from digsigd.settings.errors import SettingsError
from digsigd.settings.places import own_workdir, read_secret, state_folder_of, workdir_of
from digsigd.settings.tables import (
    CallerCsfSettings,
    CallerSettings,
    CallerTokenSettings,
    CstSettings,
    DaemonSettings,
    HttpStoreSettings,
    KeysSettings,
    ListenSettings,
    MachineSettings,
    PageSettings,
    Pkcs11Settings,
    PolicySettings,
    ProxySettings,
    RecordSettings,
    S3StoreSettings,
    Settings,
    TlsSettings,
    TokenSettings,
    UploadSettings,
)
from digsigd.settings.toml_file import ENVIRONMENT, load

__all__ = [
    "ENVIRONMENT",
    "CallerCsfSettings",
    "CallerSettings",
    "CallerTokenSettings",
    "CstSettings",
    "DaemonSettings",
    "HttpStoreSettings",
    "KeysSettings",
    "ListenSettings",
    "MachineSettings",
    "PageSettings",
    "Pkcs11Settings",
    "PolicySettings",
    "ProxySettings",
    "RecordSettings",
    "S3StoreSettings",
    "Settings",
    "SettingsError",
    "TlsSettings",
    "TokenSettings",
    "UploadSettings",
    "is_local",
    "load",
    "own_workdir",
    "read_secret",
    "state_folder_of",
    "with_backlog",
    "workdir_of",
]
