"""Programs that mypy accepts in its strict mode: every public name as it is meant to be used. They are not run."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import deferToThread

import digsigd
import digsigd.client
from digsigd import CstSettings, DigsigError, KeysSettings, Settings, Signed, SigningRequest, SigningService
from digsigd.client import (
    AhabReport,
    AhabVerificationFailed,
    CertificateInfo,
    ClientError,
    ClientSettings,
    ClientSettingsError,
    ImageError,
    KeyNames,
    MachineKeys,
    Progress,
    Report,
    ServerFailed,
    ServerRefused,
    ServerUnreachable,
    SignedBlob,
    SignedContainer,
    SignedFile,
    SignedPart,
    SigningClient,
    SrkTableInfo,
    VerificationFailed,
    key_names,
    run,
    sign_ahab,
    sign_image,
    verify_ahab,
    verify_image,
)
from digsigd.record.entry import Entry
from digsigd.record.errors import RecordError

version: str = digsigd.__version__
own_settings = Settings(keys=KeysSettings(uri="file:///keys"), cst=CstSettings(max_running=2))
daemon_settings: Settings = digsigd.load(Path("digsigd.toml"))
settings: ClientSettings = digsigd.client.load(None, os.environ, machine="imx8mm-evk")
made = ClientSettings(server="https://signer.example:9999", token="secret", timeout=600, retries=0)


class Lines:
    """A recorder, by its two methods."""

    def write(self, entry: Entry) -> Deferred[str]:
        return succeed(entry.id) if entry.data() else fail(RecordError("full"))

    def missing(self) -> list[str]:
        return []


recorded = SigningService(daemon_settings, recorder=Lines(), listen=False)


def show(sent: int, total: int) -> None:
    print(f"{sent} of {total}")


progress: Progress = show


def tell(part: SignedPart) -> None:
    print(f"{part.name}: {part.csf_length} bytes at {part.csf_offset:#x}, request {part.request_id}")


async def sign(reactor: Any) -> Report:
    client = SigningClient(settings, reactor=reactor, progress=progress, on_retry=print)
    try:
        report: Report = await sign_image(client, Path("flash.bin"), Path("signed.bin"))
        return await sign_image(
            client,
            Path("flash.bin"),
            Path("signed.bin"),
            machine="imx8mm-evk",
            cst_version="3.4.1",
            backend="pkcs11",
            names=KeyNames("table", csf_certificate="pkcs11:object=csf", image_certificate="pkcs11:object=img"),
            srk=2,
            fast_auth=False,
            fuse_value=report.fuse_value,
            soc="imx8mm",
            load_address=0x40480000,
            sdp=None,
            configuration="config-1",
            fit_fdt="required",
            name="release-7.bin",
            on_part=tell,
        )
    except VerificationFailed as error:
        return error.report
    except ImageError as error:
        raise SystemExit(f"{error.what}: {error.hint}") from None
    finally:
        await client.close()


report: Report = run(sign)


async def ask(client: SigningClient, machine: str) -> list[str]:
    host_version: str = await client.alive()
    keys: MachineKeys = await client.machine_keys(machine)
    table: SrkTableInfo = keys.srk_tables[0]
    certificate: CertificateInfo = keys.certificates[0]
    until: datetime = certificate.not_after
    names: KeyNames = key_names(keys, srk=certificate.srk or 1, fast_auth=certificate.is_srk)
    said = [table.fuse_value.hex(), until.isoformat(), *keys.versions, *keys.backends, names.table]
    return [host_version, *said, *await client.ready()]


async def describe(client: SigningClient, description: bytes) -> bytes:
    signed: SignedBlob = await client.sign(
        machine="imx8mm-evk",
        description=description,
        artifact=Path("spl.bin"),
        artifact_name="spl.bin",
        cst_version="3.4.1",
        more={"board.dtb": Path("board.dtb")},
    )
    return signed.blob


def explain(error: ClientError) -> str:
    kind = "failed"
    if isinstance(error, ServerRefused | ServerFailed):
        status: int | None = error.status
        kind = f"{status} {error.problem}"
    elif isinstance(error, ServerUnreachable | ClientSettingsError):
        kind = "not asked"
    return f"{kind}: {error.what} ({error.hint}) {error.request_id}"


async def sign_for_ahab(client: SigningClient, found: list[SignedContainer]) -> bytes | None:
    try:
        report: AhabReport = await sign_ahab(
            client,
            Path("flash.bin"),
            Path("signed.bin"),
            soc="imx93",
            srk=2,
            sgk=False,
            sw_version=0,
            fuse_version=0,
            names=KeyNames("table", srk_certificate="SRK2_crt.pem"),
            on_part=found.append,
        )
    except AhabVerificationFailed as error:
        print(error.report.plan.layout, [one.holds for one in error.report.containers])
        raise
    return report.fuse_value


async def sign_a_file(client: SigningClient, description: bytes) -> str:
    signed: SignedFile = await client.sign_file(
        machine="imx93-evk",
        description=description,
        artifact=Path("flash.bin"),
        artifact_name="flash.bin",
        to=Path("signed.bin"),
        cst_version="4.0.1",
        soc_type="mx93",
    )
    return signed.request_id


def verify_for_ahab(path: Path) -> bool:
    return verify_ahab(path, soc="imx93", fuse_value=bytes(32)).holds


def verify(path: Path) -> bool:
    report = verify_image(path, fuse_value=bytes(32), soc="mp", fit_fdt="auto", now=datetime.now(UTC))
    for csf in report.csfs:
        print(csf.signing.name, csf.holds, [check.what for check in csf.checks if check.holds is False])
    print(report.plan.layout, report.meaning, [span.state for span in report.spans if span.must])
    return report.holds


def verify_in_thread(path: Path) -> Deferred[Report]:
    return deferToThread(verify_image, path, srk_table=b"")


async def sign_here(service: SigningService, image: Path, description: bytes) -> bytes:
    request = SigningRequest.of_file(image, machine="imx8mm-evk", cst_version="3.4.1", description=description)
    try:
        signed: Signed = await service.sign(request)
    except DigsigError as error:
        raise SystemExit(str(error)) from None
    except digsigd.Error as error:
        raise SystemExit(error.diagnostics()) from None
    return signed.blob
