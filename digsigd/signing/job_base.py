"""What the jobs of HAB and of AHAB have in common: files for cst, keys, tokens, and how a run of cst ended."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace

from digsigd import csf, hab
from digsigd.csf.cst_files import RUN, TRACE
from digsigd.csf.finding import FileNeeded
from digsigd.csf.members import CERTIFICATE
from digsigd.errors import BadRequest, CstFailed, CstTimeout, DigsigError, Refused
from digsigd.hab.certificate import load_file
from digsigd.keys import Keys
from digsigd.signing.cst import CstRun, describe
from digsigd.signing.key_checks import certificate_of
from digsigd.signing.pkcs11 import MAX_TRACE, Access, Token, Way, forms_of, without_chatter, write_access
from digsigd.signing.private_keys import check_readable, pair_of, plain_key
from digsigd.signing.redact import reason_of
from digsigd.signing.request import Artifact, SigningRequest
from digsigd.signing.rules import MachineRules
from digsigd.signing.start import Needs
from digsigd.signing.sums import ChangedError, Sums, copied
from digsigd.signing.workdir import Workdir, open_regular

# A CSF blob holds a table, two certificates and some signatures: tens of kB. Anything larger is not a CSF blob.
MAX_BLOB = 1 << 20


@contextmanager
def csf_errors() -> Iterator[None]:
    """Turn errors of `digsigd.csf` into `BadRequest` for syntax errors and `Refused` for all others."""
    try:
        yield
    except csf.CsfSyntaxError as error:
        raise BadRequest(f"csf: {error}") from None
    except csf.CsfError as error:
        raise Refused(f"csf: {error}", line=error.line) from None


class BaseJob:
    """The blocking steps of one request that do not depend on what is signed. Run each in a thread.

    With `at_once`, `SlowError` is raised if a private key must be decrypted first. `made` is what cst makes, in words.
    """

    made = "CSF blob"

    def __init__(
        self, request: SigningRequest, rules: MachineRules, keys: Keys, workdir: Workdir, *, at_once: bool = False
    ) -> None:
        self.request = request
        self._rules = rules
        self._tarball = keys.tarball
        self._members = keys.tarball.members
        self._at_once = at_once
        self._plain: dict[str, bytes] = {}
        self._pairs: list[tuple[str, str]] = []
        self.workdir = workdir
        self._secrets = [self._members[name] for name in self._members if name.endswith("key_pass.txt")]
        self.environment: dict[str, str] = {}
        self.needs = Needs(read=(str(workdir.path),))
        # What belongs to the description, set once it is resolved.
        self.token = ""
        self._files_needed: tuple[FileNeeded, ...] = ()
        self._client_names: Mapping[str, str] = {}
        self._uris: tuple[csf.KeyUri, ...] = ()

    @property
    def size(self) -> int:
        """The most bytes that one command signs."""
        raise NotImplementedError

    def _copied(self, name: str, artifact: Artifact) -> Sums:
        """Copy a file of the embedding program into the work directory, and return the digests of the copy."""
        try:
            with open(open_regular(artifact.path, follow=True), "rb", buffering=0) as source:  # noqa: PTH123
                return copied(source, self.workdir.create(name), artifact.size)
        except ChangedError:
            raise DigsigError("the artifact became shorter before it was signed", detail=str(artifact.path)) from None
        except OSError as error:
            raise DigsigError("the artifact cannot be read", detail=str(error)) from error

    def unlock(self, way: Way, access: Access, pin: str) -> None:
        """Write what cst needs to use a token. Call this last, because an operator can change the PIN at any time.

        Raises `DigsigError` if it cannot be written.
        """
        self._secrets += forms_of(pin)
        self.needs = replace(access.needs, read=(*self.needs.read, *access.needs.read), temporary=self.needs.temporary)
        self.environment = write_access(self.workdir, way, access, pin)

    def judge_token(self, token: Token, way: Way, pin: str, run: CstRun, folder: str = RUN) -> CstRun:
        """Raise the errors of `Token.judge` for a run. Return the run without the output of OpenSSL's libraries."""
        trace = b""
        if way == "provider":
            with suppress(OSError):
                trace = self.workdir.read(f"{folder}/{TRACE}", MAX_TRACE)
        token.judge(way, run.output, trace, self._uris, pin=pin, worked=run.exit_code == 0)
        return replace(run, output=without_chatter(run.output))

    def _content(self, needed: FileNeeded) -> bytes:
        if needed.member in self._plain:
            return self._plain[needed.member]
        data = self._members[needed.member]
        # cst decides by the file name's ending, not by the content.
        if needed.kind != "certificate" or data.startswith(b"\x30") == needed.name.endswith(".der"):
            return data
        der = certificate_of(self._members, needed.member).der
        return der if needed.name.endswith(".der") else ssl.DER_cert_to_PEM_cert(der).encode()

    def _decrypts(self, certificate: str, key: str, key_pass: str | None) -> bool:
        """Return whether cst gets this key decrypted."""
        plain = plain_key(self._tarball, certificate, key, key_pass, at_once=self._at_once)
        self._pairs.append((certificate, key))
        if plain is not None:
            self._plain[key] = plain
        return plain is not None

    def _identity(self, member: str) -> object:
        """Return what copies of a member have in common: its bytes, or the DER of the certificate in it."""
        data = self._members[member]
        if CERTIFICATE.fullmatch(member):
            with suppress(hab.HabError):
                return load_file(data).der
        return data

    def _check_key_files(self) -> None:
        """Find a private key that cst could not use. Raises `BadTarball`."""
        folders: dict[str, dict[str, str]] = {}
        for needed in self._files_needed:
            folders.setdefault(needed.name.rpartition("/")[0], {})[needed.kind] = needed.member
        for members in folders.values():
            if (key := members.get("key")) is not None and key not in self._plain:
                check_readable(pair_of(self._tarball, members["certificate"], key, members.get("key-pass")))

    def _judge(self, run: CstRun, *, wrote: bool) -> None:
        """Raise `CstTimeout`, `CstFailed` or `Refused` unless cst reports success and `wrote` a result."""
        if run.exit_code == 0 and run.signal is None and not run.ran_out_of_cpu and wrote:
            return
        reason = reason_of(run.output, self.workdir.path, self._client_names, self._secrets, self._plain.values())
        if run.ran_out_of_cpu:
            raise CstTimeout("cst exceeded its CPU time limit and was stopped", detail=reason)
        if run.signal is not None:
            raise CstFailed(f"cst {describe(run)}", detail=reason)
        if run.exit_code != 0:
            # A cst that was taken over could say a key: what it says is for the operator alone.
            raise Refused(
                "cst refused the CSF description",
                hint="the operator finds what cst said in the log of the signing host, by the id of this request",
                detail=f"{describe(run)}: {reason}" if reason else describe(run),
            )
        raise CstFailed(f"cst ended with exit code 0 but wrote no {self.made}", detail=reason)
