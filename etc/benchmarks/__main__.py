"""Compare the daemon, which verifies what it signs, with bare cst, both in one run on one machine.

    python -m etc.benchmarks run [--cases 'rsa4096,64K,4 p256,64K,*'] [--rounds 5] [--versus ../other-checkout]

The standard run takes some ten minutes. `--cases all` is the whole matrix, which takes days.
"""

from __future__ import annotations

import sys

from etc.benchmarks.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
