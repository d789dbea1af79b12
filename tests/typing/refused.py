"""Lines that mypy refuses, each with the code of its error: what a type checker saves a program from.

They are not run. A test checks that these lines, and no others, are refused, each for the reason beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import digsigd
from digsigd.client import ClientSettings, KeyNames, Progress, Report, SigningClient, run, sign_image, verify_image

IMAGE, OUT = Path("flash.bin"), Path("signed.bin")


def show(name: str, length: int) -> None:
    print(name, length)


async def sign(client: SigningClient, reactor: Any) -> None:
    SigningClient(ClientSettings())  # error: [call-arg]
    SigningClient("https://signer.example", reactor=reactor)  # error: [arg-type]
    await sign_image(client, IMAGE)  # error: [call-arg]
    await sign_image(client, "flash.bin", OUT)  # error: [arg-type]
    await sign_image(client, IMAGE, OUT, srk="1")  # error: [arg-type]
    await sign_image(client, IMAGE, OUT, fuse_value="00" * 32)  # error: [arg-type]
    await sign_image(client, IMAGE, OUT, fit_fdt="always")  # error: [arg-type]
    await sign_image(client, IMAGE, OUT, load_address="0x40480000")  # error: [arg-type]
    await sign_image(client, IMAGE, OUT, fuses=bytes(32))  # error: [call-arg]
    await sign_image(client, IMAGE, OUT, on_part=show)  # error: [arg-type]
    await sign_image(IMAGE, OUT)  # error: [call-arg, arg-type]
    report: Report = sign_image(client, IMAGE, OUT)  # error: [assignment]
    (await sign_image(client, IMAGE, OUT)).fuse_value.hex()  # error: [union-attr]
    await client.sign(machine="m", csf=b"", artifact=IMAGE, artifact_name="n", cst_version="1")  # error: [call-arg]
    await client.sign(description=b"", artifact=IMAGE, artifact_name="n", cst_version="1")  # error: [call-arg]
    client.settings = ClientSettings()  # error: [misc]
    digsigd.SigningService(digsigd.Settings(), recorder=print)  # error: [arg-type]
    print(report)


def verify() -> None:
    verify_image("signed.bin")  # error: [arg-type]
    verify_image(OUT, client=None)  # error: [call-arg]
    verify_image(OUT, srk_table=Path("SRK_1_2_3_4_table.bin"))  # error: [arg-type]
    print(verify_image(OUT).hold)  # error: [attr-defined]
    verify_image(OUT).holds = True  # error: [misc]


def others(settings: ClientSettings) -> None:
    ClientSettings(server="https://signer.example", timeout="600")  # error: [arg-type]
    settings.server = "https://signer.example"  # error: [misc]
    KeyNames()  # error: [call-arg]
    run(verify)  # error: [arg-type]
    progress: Progress = verify  # error: [assignment]
    progress(1)  # error: [call-arg]
    print(digsigd.client_settings)  # error: [attr-defined]


def names() -> None:
    from digsigd import Client  # error: [attr-defined]
    from digsigd.client import SignedImage  # error: [attr-defined]

    print(Client, SignedImage)
