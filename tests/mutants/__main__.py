"""Break the code in small ways, one at a time, and see that a test fails each time.

    python -m tests.mutants [--only digsigd/hab/der.py ...] [--seconds N]

A change that no test notices has to be explained in `reasons.toml`, else this fails; so does a reason for what no
longer survives. What was killed is remembered in `.digsigd/mutants` until the function it is in changes: a run that was
stopped goes on where it was.

All tests of a group of modules are loaded and run once, to see which lines each of them goes through. Then there is a
process for each change, forked with everything loaded: it runs tests that go through the changed lines, in turns those
that go where few do and the quick ones, and ends with the first that fails. mutmut does not change constants of
modules, such as the digests that are accepted; cosmic-ray neither drops operands and statements, nor does it run
several thousand changes in an hour.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.mutants.groups import GROUPS
from tests.mutants.records import Records
from tests.mutants.run import run

ROOT = Path(__file__).parent.parent.parent


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="*", default=[], help="modules to change, in this order; a part of a path is enough"
    )
    parser.add_argument("--seconds", type=float, default=6 * 3600, help="stop after so long, and say what is left")
    parser.add_argument("--list", action="store_true", help="show the changes and make none")
    given = parser.parse_args(arguments)
    records = Records(ROOT)
    modules = [module for group in GROUPS for module in group.modules(ROOT)]
    chosen = list(dict.fromkeys(one for part in given.only or [""] for one in modules if part in one))
    if not chosen:
        print(f"no module is {' or '.join(given.only)}", file=sys.stderr)
        return 2
    if given.list:
        for module in chosen:
            for mutant in records.mutants(module):
                print(f"{module}:{mutant.line}: {mutant.name}")
        return 0
    return run(ROOT, records, chosen, given.seconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
