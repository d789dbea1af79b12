"""Test whether a cst can sign: some builds start, but crash or fail when they sign."""

from __future__ import annotations

from datetime import UTC, datetime

from digsigd import hab
from digsigd.csf import cst_files
from digsigd.csf.cst_files import BLOB, DESCRIPTION, RUN
from digsigd.errors import DigsigError
from digsigd.signing.cst import CstRunner, describe
from digsigd.signing.job_base import MAX_BLOB
from digsigd.signing.signer import RunBounds
from digsigd.signing.start import Needs
from digsigd.signing.threads import InThread
from digsigd.signing.tools import CstTool
from digsigd.signing.workdir import Workdir
from digsigd.testing import TrialImage, TrialPki

_IMAGE = 0x4000
_ARTIFACT = cst_files.artifact(0)
_TIMEOUT = 20.0


async def prove(
    tool: CstTool, runner: CstRunner, workdir: Workdir, in_thread: InThread, bounds: RunBounds
) -> str | None:
    """Sign a trial image with throw-away keys in `workdir` and verify it. Return why that failed, or None."""
    image = TrialImage.of_size(_IMAGE)
    try:
        pki = await in_thread(_prepare, workdir, image)
        run = await runner.run(
            tool.executable,
            ["-i", DESCRIPTION, "-o", BLOB],
            cwd=str(workdir.path / RUN),
            limits=bounds.limits(_IMAGE),
            timeout=_TIMEOUT,
            needs=Needs(read=(str(workdir.path),), libraries=tool.libraries),
        )
        if run.signal is not None or run.exit_code != 0:
            return f"{tool.executable} {describe(run)} while signing a trial image"
        await in_thread(_verify, workdir, image, pki)
    except hab.HabError as error:
        return f"{tool.executable} made a wrong signature for a trial image: {error}"
    except OSError:
        return f"{tool.executable} wrote no CSF blob for a trial image"
    except DigsigError as error:
        return str(error)
    return None


def _prepare(workdir: Workdir, image: TrialImage) -> TrialPki:
    pki = TrialPki.make("p256", srks=1, encrypted=False)
    for name, content in pki.files.items():
        workdir.write(name, content)
    workdir.write(_ARTIFACT, image.data)
    workdir.write(DESCRIPTION, pki.csf(image.blocks(_ARTIFACT)).encode())
    workdir.enter(RUN, [_ARTIFACT, DESCRIPTION, *dict.fromkeys(name.partition("/")[0] for name in pki.files)])
    return pki


def _verify(workdir: Workdir, image: TrialImage, pki: TrialPki) -> None:
    block = hab.Block(image.address, 0, image.signed_size)
    hab.verify(
        workdir.read(f"{RUN}/{BLOB}", MAX_BLOB),
        srk_table=pki.srk_table,
        expected_blocks=[[block]],
        source_index=0,
        digests=[hab.digest_blocks("sha256", [block], [hab.File.of(image.data)])],
        fuse_value=pki.fuse_value,
        now=datetime.now(UTC),
    )
