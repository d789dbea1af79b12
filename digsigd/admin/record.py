"""`digsigd record`: read the record, verify it, prove what is in it, and prune it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from digsigd.cli.console import Console

if TYPE_CHECKING:
    from digsigd.admin.record_commands import Source

HELP = """Read the record of this signing host, verify it, prove what is in it, and prune it.

The record is that of the configuration. To read another one, a backup for example, use --url, and --key or --folder
for the key that it is verified with. See docs/record.md.
"""
CONFIG = Path("/etc/digsigd/digsigd.toml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `digsigd record`."""
    from digsigd.admin import record_commands as commands

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", "-c", type=Path, help=f"the configuration (default: {CONFIG}, if it exists)")
    common.add_argument("--url", help="the database: sqlite:///PATH or postgresql://...")
    common.add_argument("--folder", type=Path, help="the folder with the host's key and last checkpoint")
    common.add_argument("--key", metavar="KEY", help="the verifier key, or a file with it (GET /record/key)")
    filters = argparse.ArgumentParser(add_help=False)
    for name in ("outcome", "caller", "machine", "request", "client-request", "blob", "artifact"):
        filters.add_argument(
            f"--{name}", help=argparse.SUPPRESS if name == "request" else f"only entries with this {name}"
        )
    filters.add_argument("--since", default="", metavar="TIME", help="from this time on, such as 2026-01-31 (UTC)")
    filters.add_argument("--until", default="", metavar="TIME", help="before this time")
    parsers = parser.add_subparsers(metavar="WHAT", required=True)

    def add(name: str, run: Callable[[argparse.Namespace, Console, Source], int], text: str, *more: str) -> None:
        parents = [common, filters] if "filters" in more else [common]
        one = parsers.add_parser(name, help=text, description=text, parents=parents)
        for argument in more:
            _MORE[argument](one)
        one.set_defaults(what=run)

    add("verify", commands.verify, "find every changed, removed, inserted or moved entry", "checkpoints", "exports")
    add("list", commands.listing, "list entries, the newest first", "filters", "limit")
    add("show", commands.show, "show one entry", "id")
    add("export", commands.export, "write entries as JSON, one line each", "filters", "json")
    add("who", commands.who, "show who had a signed image or a CSF blob signed", "image")
    add("prove", commands.prove, "prove offline that an entry is in the record, or that it has only grown", "proving")
    add("check-proof", commands.check_proof, "check a proof, without the record", "checking")
    add("prune", commands.prune_command, "export old entries, and remove their contents", "before", "to")
    add("backup", commands.backup_command, "copy the database while the daemon writes", "target")
    add("key", commands.key, "print the public half of the host's key")


def run(options: argparse.Namespace, console: Console) -> int:
    """Run a subcommand, and return the exit code. Raises `RecordError`, `SettingsError` and `Trouble`."""
    from digsigd.admin.record_commands import Source

    with Source(options.config or (CONFIG if CONFIG.exists() else None), options) as source:
        code: int = options.what(options, console, source)
    return code


_MORE: dict[str, Callable[[argparse.ArgumentParser], object]] = {
    "filters": lambda _: None,
    "checkpoints": lambda one: one.add_argument(
        "--checkpoints", type=Path, action="append", default=[], metavar="FILE", help="checkpoints kept elsewhere"
    ),
    "exports": lambda one: one.add_argument(
        "--export", type=Path, action="append", default=[], metavar="FILE", help="verify a pruned export, too"
    ),
    "limit": lambda one: one.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (50)"),
    "id": lambda one: one.add_argument("id", help="the id of the entry: X-Digsigd-Record of its answer"),
    "json": lambda one: one.add_argument("--json", action="store_true", help="(the only form)"),
    "image": lambda one: one.add_argument("image", type=Path, help="a signed image, or a CSF blob"),
    "proving": lambda one: (
        one.add_argument("id", nargs="?", help="the id of the entry"),
        one.add_argument("--grown-from", type=Path, metavar="CHECKPOINT", help="prove growth since this checkpoint"),
        one.add_argument("--entry", type=Path, metavar="FILE", help="write the entry's JSON here"),
        one.add_argument("--out", "-o", type=Path, required=True, metavar="FILE", help="write the proof here"),
    ),
    "checking": lambda one: (
        one.add_argument("proof", type=Path, help="the proof"),
        one.add_argument("--entry", type=Path, metavar="FILE", help="the JSON of the entry"),
        one.add_argument("--grown-from", type=Path, metavar="CHECKPOINT", help="the older checkpoint"),
    ),
    "before": lambda one: one.add_argument("--before", required=True, metavar="TIME", help="entries older than this"),
    "to": lambda one: one.add_argument("--export", type=Path, required=True, metavar="FILE", help="write them here"),
    "target": lambda one: one.add_argument("target", type=Path, help="the file to write; it must not exist"),
}
