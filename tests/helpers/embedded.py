"""What tests of a service in their own process share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import treq
from twisted.internet import reactor as installed
from twisted.web.client import Agent

from digsigd import Settings
from digsigd.settings import CstSettings, DaemonSettings, KeysSettings, ListenSettings
from digsigd.testing import TrialImage, TrialPki
from tests.helpers.proof import proven

reactor: Any = installed
MACHINE = "imx8mm-evk"
IMAGE = TrialImage.of_size(0x4000)


class ServiceSetup:
    """A key store, an image with its description, and settings for both."""

    def __init__(self, folder: Path, cst_base: Path) -> None:
        self.folder = folder
        self.pki = TrialPki.make("p256", srks=1)
        self.tarball = folder / f"keys/{MACHINE}/imxsign/imx-cst-keys.tar.gz"
        self.tarball.parent.mkdir(parents=True)
        self.tarball.write_bytes(self.pki.tarball())
        self.work = folder / "work"
        self.work.mkdir()
        self.image = folder / "spl.bin"
        self.image.write_bytes(IMAGE.data)
        self.csf = self.pki.csf(IMAGE.blocks("spl.bin")).encode()
        self.cst = CstSettings(base=cst_base, max_running=1, max_waiting=4)

    def settings(self, **more: Any) -> Settings:
        made: dict[str, Any] = {
            "listen": ListenSettings(endpoint="tcp:0:interface=127.0.0.1"),
            "keys": KeysSettings(uri=(self.folder / "keys").as_uri()),
            "cst": self.cst,
            "daemon": DaemonSettings(workdir=self.work, shutdown_grace=5.0),
            **more,
        }
        return Settings(**made)

    def verify(self, blob: bytes) -> None:
        proven(self.pki, IMAGE, blob)

    async def post(self, url: str) -> tuple[int, bytes]:
        """Post the image as treq does."""
        client = treq.client.HTTPClient(Agent(reactor))
        with self.image.open("rb") as image:
            answer = await client.post(
                url,
                data={"machine": MACHINE, "cstversion": "3.4.1"},
                files={"csf": ("a.csf", "text/plain", self.csf), "artifact": ("spl.bin", image)},  # type: ignore[arg-type]
            )
            return answer.code, await answer.content()
