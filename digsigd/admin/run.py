"""`digsigd run`: the daemon in the foreground, or the check of its configuration."""

from __future__ import annotations

import argparse

from digsigd.cli.console import Console

HELP = """Run the daemon in the foreground, or check its configuration with --check, and exit.

It is the same as `twistd --nodaemon --pidfile= digsigd` with the same options, but needs neither twistd on PATH nor
write access to the folders of Python's packages. The log goes to standard output. SIGTERM stops it, SIGHUP reads
everything again. Without --config the daemon needs DIGSIGSERVER_KEYFILE_URI.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `digsigd run`."""
    parser.add_argument("-c", "--config", metavar="FILE", help="TOML file with the configuration")
    parser.add_argument("-l", "--listen", metavar="ENDPOINT", help="Twisted endpoint, instead of the configured one")
    parser.add_argument("--log-format", choices=("text", "json"), default="text", help="form of log lines")
    parser.add_argument("--logfile", metavar="FILE", help="append the log to FILE instead of standard output")
    parser.add_argument(
        "--check", action="store_true", help="check the configuration, the key store, keys, cst and tokens, and exit"
    )
    parser.add_argument(
        "--machine", action="append", default=[], metavar="NAME", help="with --check: try this machine's keys, too"
    )
    parser.add_argument(
        "--as", dest="user", metavar="USER", help="with --check: the user that the daemon runs as; needs root"
    )


def run(options: argparse.Namespace, console: Console) -> int:  # noqa: ARG001
    """Run the daemon until a signal ends it. Raises `SystemExit` if it cannot start."""
    # Twisted's options choose the reactor: nothing may import it before.
    from digsigd.foreground import in_foreground
    from digsigd.foreground import run as run_twistd

    words = [f"--log-format={options.log_format}"]
    for name, value in (("config", options.config), ("listen", options.listen), ("as", options.user)):
        words += [f"--{name}={value}"] if value is not None else []
    words += ["--check"] if options.check else []
    words += [f"--machine={name}" for name in options.machine]
    run_twistd(in_foreground(words, logfile=options.logfile))
    return 0
