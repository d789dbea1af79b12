"""Which tests are to notice changes of which modules: those that start no daemon."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Group:
    """`patterns` are of modules, `tests` the files and folders that are loaded for them.

    `without` are files and tests of these that take too long.
    """

    patterns: tuple[str, ...]
    tests: tuple[str, ...]
    without: tuple[str, ...] = ()

    def modules(self, root: Path) -> list[str]:
        """Paths from the root of the project, in order; packages themselves only name what is in them."""
        found = {path for pattern in self.patterns for path in root.glob(pattern) if path.name != "__init__.py"}
        return [str(path.relative_to(root)) for path in sorted(found)]


_OF_AHAB = ("syntax", "policy", "names", "properties", "signing")
_OF_SPSDK = ("answers", "fields", "places", "regions", "signer_keys")
_STEPS = ("containers", "described", "keys", "sums", "tables")

GROUPS = (
    Group(("digsigd/callers/*.py",), ("tests/callers",)),
    Group(("digsigd/signing/redact.py",), ("tests/signing/test_redact.py",)),
    Group(
        ("digsigd/keys/tar*.py",),
        ("tests/keys/test_tarball.py", "tests/keys/test_tarball_bounds.py"),
        (
            "tests/keys/test_tarball.py::test_a_million_members_are_not_looked_at",
            "tests/keys/test_tarball.py::test_a_bomb_is_cut_off_at_the_bound",
        ),
    ),
    # Those that are left out run cst hundreds of times, or measure time.
    Group(
        ("digsigd/csf/*.py",),
        ("tests/csf",),
        ("tests/csf/test_csf_work.py", "tests/csf/test_ahab_csf_work.py"),
    ),
    Group(
        ("digsigd/csf/ahab/*.py",),
        (
            *(f"tests/csf/test_ahab_csf_{name}.py" for name in _OF_AHAB),
            "tests/csf/test_ahab_asked.py",
            "tests/signing/test_ahab_described.py",
        ),
    ),
    # Without the steps themselves, which start cst.
    Group(
        tuple(f"digsigd/signing/ahab_{name}.py" for name in _STEPS),
        tuple(f"tests/signing/test_ahab_{name}.py" for name in (*_STEPS, "key_checks")),
    ),
    # Without those that need a host.
    Group(
        tuple(f"digsigd/spsdk/{name}.py" for name in ("answer", "configuration", "place", "region")),
        tuple(f"tests/spsdk/test_spsdk_{name}.py" for name in _OF_SPSDK),
    ),
    Group(
        ("digsigd/hab/*.py",),
        ("tests/hab", "tests/model"),
        ("tests/hab/test_blob_changed.py", "tests/hab/test_blob_openssl.py"),
    ),
    Group(
        ("digsigd/ahab/*.py",),
        ("tests/ahab",),
        (
            "tests/ahab/test_ahab_bits.py::test_every_bit_of_what_cst_signed_counts",
            "tests/ahab/test_ahab_bits.py::test_every_byte_of_what_is_forged_counts",
            "tests/ahab/test_ahab_good.py::test_what_cst_signs_holds",
            "tests/ahab/test_ahab_opinions.py::test_ahab_image_verifier_agrees",
            "tests/ahab/test_ahab_srk_table.py::test_tables_are_built_as_srktool_builds_them",
        ),
    ),
    # Those that are left out look at much at once, longer than a test for one change may take.
    Group(
        ("digsigd/image/**/*.py",),
        ("tests/image", "tests/model"),
        (
            "tests/image/test_ahab_detect.py::test_srk_tables_of_hab_are_not_ahabs",
            "tests/image/test_kind_fuzz.py::test_damaged_headers_are_planned_or_refused",
            "tests/image/test_plan_fuzz.py::test_any_bytes_are_planned_or_refused",
            "tests/image/test_plan_fuzz.py::test_damaged_images_are_planned_or_refused",
            "tests/image/test_plan_fuzz.py::test_padding_is_looked_at_a_few_times_at_most",
            "tests/image/test_verify_fuzz.py::test_changed_images_are_judged",
            "tests/model/test_corpus.py::test_a_fit_behind_an_spl_meets_its_keys",
            "tests/model/test_corpus.py::test_what_a_board_refuses_of_random_csfs_is_refused",
        ),
    ),
)
