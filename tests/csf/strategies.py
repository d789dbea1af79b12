"""Descriptions of every kind that can be written, and texts that are nearly descriptions."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from hypothesis import strategies as st

from digsigd import csf
from digsigd.csf import grammar, model, values

_T = TypeVar("_T")
SAMPLES = sorted((Path(__file__).parent / "samples").iterdir())
MAX_BLOCKS = grammar.MAX_BLOCKS


def _name(text: str) -> bool:
    return text.isprintable() and len(text.encode()) <= 255


def maybe(strategy: st.SearchStrategy[_T]) -> st.SearchStrategy[_T | None]:
    return st.none() | strategy


# Printable, no quotation mark; often with what means something elsewhere in the language.
_printable = st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters='"')
_strange = st.text("ab/\\.#[]=,; _-'", min_size=1, max_size=255)
names = st.text(_printable, min_size=1, max_size=80).filter(_name) | _strange
uris = st.text("abc:;=,%/[]-_.", max_size=200).map("pkcs11:".__add__)
files = names | uris
numbers = st.integers(0, 0xFFFFFFFF)
hashes = st.sampled_from(values.HASHES)
engines = st.sampled_from(values.ENGINES)
configurations = st.lists(st.sampled_from(values.CONFIGURATIONS), unique=True).map(tuple)
features = st.lists(st.sampled_from(values.FEATURES), unique=True, min_size=1).map(tuple)
x509 = maybe(st.just("X509"))
cms = maybe(st.just("CMS"))
blocks = st.lists(st.builds(csf.Block, numbers, numbers, numbers, names), min_size=1, max_size=6).map(tuple)

commands: st.SearchStrategy[csf.Command] = st.one_of(
    st.builds(
        model.Header,
        version=st.tuples(st.just(4), st.integers(0, 5)),
        hash_algorithm=hashes,
        engine=maybe(engines),
        engine_configuration=maybe(configurations),
        mode=maybe(st.just("HSM")),
        target=maybe(st.just("HAB")),
    ),
    st.builds(model.InstallSrk, file=files, source_index=st.integers(0, 3), hash_algorithm=maybe(hashes)),
    st.builds(model.InstallCsfk, file=files, certificate_format=x509),
    st.builds(model.InstallNocak, file=files, certificate_format=x509),
    st.builds(
        model.AuthenticateCsf,
        engine=maybe(engines),
        engine_configuration=maybe(configurations),
        signature_format=cms,
    ),
    st.builds(
        model.InstallKey,
        file=files,
        verification_index=st.integers(0, 4),
        target_index=st.integers(0, 4),
        certificate_format=x509,
        hash_algorithm=maybe(hashes),
    ),
    st.builds(
        model.AuthenticateData,
        blocks=blocks,
        verification_index=st.integers(0, 4),
        engine=maybe(engines),
        engine_configuration=maybe(configurations),
        signature_format=cms,
    ),
    st.builds(
        model.Unlock,
        engine=engines,
        features=maybe(features),
        uid=maybe(st.tuples(*[st.integers(0, 255)] * 8)),
    ),
    st.builds(model.SetEngine, engine=engines, hash_algorithm=hashes, engine_configuration=maybe(configurations)),
    st.builds(model.Init, engine=engines, features=maybe(features)),
    st.builds(model.Nop),
    st.builds(model.Refusable, name=st.sampled_from(sorted(grammar.REFUSED.values()))),
)
descriptions = st.lists(commands, min_size=1, max_size=10).map(lambda items: csf.Description(tuple(items)))

_WORDS = [form.name for form in grammar.COMMANDS.values()] + list(grammar.REFUSED.values())
_LABELS = [argument.label for form in grammar.COMMANDS.values() for argument in form.arguments.values()]
_KEYWORDS = [*values.ENGINES, *values.FEATURES, *values.HASHES, *values.CONFIGURATIONS, "X509", "CMS", "HSM", "HAB"]
_MARKS = ["[", "]", "=", ",", '"', "#", "\\", "\n", "\r\n", " ", "\t", "0", "0x", "4.3", "-1", "\0", "\xff", "pkcs11:"]
fragments = (
    st.sampled_from(_WORDS).map("\n[{}]\n".format)
    | st.sampled_from(_LABELS).map("\n{} = ".format)
    | st.sampled_from(_KEYWORDS)
    | st.sampled_from(_MARKS)
    | st.sampled_from(['0x7e0fc0 0x0 0x2000 "flash.bin"', ", \\\n", '"SRK_1_2_3_4_table.bin"', '"a_crt.pem"'])
    | names.map('"{}"'.format)
    | numbers.map(str)
).map(lambda text: text.encode("utf-8", "replace"))
soups = st.lists(fragments, max_size=60).map(b"".join)


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A sample with some of its bytes taken out, put in, doubled or moved."""
    text = draw(st.sampled_from(SAMPLES)).read_bytes()
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        put = draw(st.sampled_from([b"", text[start:end] * 2]) | fragments | st.binary(max_size=4))
        text = text[:start] + put + text[end:]
    return text
