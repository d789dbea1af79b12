"""Descriptions for AHAB of every kind that can be written, and texts that are nearly descriptions."""

from __future__ import annotations

from hypothesis import strategies as st

from digsigd.csf import ahab, model
from digsigd.csf.ahab import grammar
from tests.csf import ahab_texts, strategies
from tests.csf.strategies import SAMPLES, files, maybe, numbers

commands: st.SearchStrategy[ahab.Command] = st.one_of(
    st.builds(ahab.Header, version=st.sampled_from([(1, 0), (2, 0)]), mode=maybe(st.just("HSM"))),
    st.builds(
        ahab.InstallSrk,
        file=files,
        source=files,
        source_index=st.integers(0, 3),
        source_set=st.sampled_from(["OEM", "NXP"]),
        revocations=st.integers(0, 15),
        check_all_signatures=maybe(st.sampled_from(["Fuse", "All"])),
        fast_boot=maybe(st.integers(0, 7)),
    ),
    st.builds(
        ahab.InstallCertificate,
        file=files,
        permissions=st.integers(0, 255),
        permissions_data=maybe(st.tuples(*[numbers] * 3)),
        uuid=maybe(st.tuples(*[numbers] * 4)),
        fuse_version=maybe(st.integers(0, 255)),
        signature=maybe(files),
    ),
    st.builds(ahab.AuthenticateData, file=files, offsets=st.tuples(numbers, numbers), signature=maybe(files)),
    st.builds(model.Refusable, name=st.sampled_from(sorted(grammar.REFUSED.values()))),
)
descriptions = st.lists(commands, min_size=1, max_size=8).map(lambda items: ahab.Description(tuple(items)))


@st.composite
def accepted(draw: st.DrawFn) -> ahab.Description:
    """A description that is signed if everything is allowed, with its commands in any order."""
    version = draw(st.sampled_from([(1, 0), (2, 0)]))
    newer = version == (2, 0)
    index = draw(st.integers(0, 3))
    starts = draw(st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True))
    rest: list[ahab.Command] = [
        ahab.InstallSrk(
            file=ahab_texts.TABLE,
            source=ahab_texts.SRK,
            source_index=index,
            source_set="OEM",
            revocations=draw(st.integers(0, 15)) & ~(1 << index),
            check_all_signatures=draw(maybe(st.sampled_from(["Fuse", "All"]))) if newer else None,
            fast_boot=draw(maybe(st.integers(0, 7))) if newer else None,
        ),
        *(
            ahab.AuthenticateData(
                file="flash.bin", offsets=(start * 0x400, start * 0x400 + 0x10 + 0x80 * draw(st.integers(1, 7)))
            )
            for start in starts
        ),
    ]
    if draw(st.booleans()):
        rest.append(
            ahab.InstallCertificate(
                file=ahab_texts.SGK,
                permissions=draw(st.integers(0, 127)) * 2 + 1,
                permissions_data=draw(maybe(st.tuples(*[numbers] * 3))) if newer else None,
                uuid=draw(maybe(st.tuples(*[numbers] * 4))) if newer else None,
                fuse_version=draw(maybe(st.integers(0, 255))) if newer else None,
            )
        )
    return ahab.Description((ahab.Header(version=version), *draw(st.permutations(rest))))


_NAMES = [form.name for form in grammar.COMMANDS.values()] + list(grammar.REFUSED.values())
_LABELS = [argument.label for form in grammar.COMMANDS.values() for argument in form.arguments.values()]
_VALUES = ["AHAB", "1.0", "2.0", "OEM", "NXP", "HSM", "Fuse", "All", "0x400 0x490", "1 2 3", "1 2 3 4"]
fragments = (
    st.sampled_from(_NAMES).map("\n[{}]\n".format)
    | st.sampled_from(_LABELS).map("\n{} = ".format)
    | st.sampled_from(_VALUES)
).map(str.encode) | strategies.fragments
soups = st.lists(fragments, max_size=60).map(b"".join)
_TEXTS = [one.encode() for one in (ahab_texts.BASE, ahab_texts.WITH_SGK, ahab_texts.V2)]
_TEXTS += [one.read_bytes() for one in SAMPLES if "ahab" in one.name]


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A description with some of its bytes taken out, put in, doubled or moved."""
    text = draw(st.sampled_from(_TEXTS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        put = draw(st.sampled_from([b"", text[start:end] * 2]) | fragments | st.binary(max_size=4))
        text = text[:start] + put + text[end:]
    return text
