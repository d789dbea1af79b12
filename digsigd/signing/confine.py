"""Start a program with limits and behind Landlock, where the launcher was not built: what Python can do before exec.

Run as a program, with the words that the launcher takes. It imports nothing of digsigd, so that it starts fast. Only
the layer `l` works here; the C library's calls that it needs have the same numbers on all architectures.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import stat
import struct
import sys

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
# linux/landlock.h
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_REG = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 8
_REFER, _TRUNCATE, _IOCTL_DEV, _CONNECT_TCP = 1 << 13, 1 << 14, 1 << 15, 1 << 1
_RIGHTS = {
    "read": _READ_FILE | _READ_DIR,
    "run": _READ_FILE | _READ_DIR | _EXECUTE,
    "write": _READ_FILE | _READ_DIR | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV | _REMOVE_FILE | _MAKE_REG,
}
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_C = ctypes.CDLL(None, use_errno=True)


class _FailedError(Exception):
    """The program cannot be started; the text is the reason."""


def _call(what: str, *arguments: object) -> int:
    result = int(_C.syscall(*(ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)))
    if result < 0:
        raise _FailedError(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def landlock(places: list[tuple[str, str]], ports: list[int]) -> int:
    """Restrict this process to these places (a use and a path), and return Landlock's ABI. Raises `_FailedError`."""
    abi = _call("Landlock", _CREATE_RULESET, None, 0, 1)
    # All rights that this kernel knows are denied unless a rule grants them.
    files = _REFER - 1 | (_REFER if abi >= 2 else 0) | (_TRUNCATE if abi >= 3 else 0) | (_IOCTL_DEV if abi >= 5 else 0)
    ruleset = struct.pack("=Q", files) + (struct.pack("=Q", 3) if abi >= 4 else b"")
    ruleset += struct.pack("=Q", 3) if abi >= 6 else b""
    rules = _call("Landlock", _CREATE_RULESET, ruleset, len(ruleset), 0)
    for use, path in places:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rights = _RIGHTS[use] & files & (-1 if stat.S_ISDIR(os.fstat(place).st_mode) else _OF_FILES)
        _call(f"Landlock: {path}", _ADD_RULE, rules, 1, struct.pack("=Qi", rights, place), 0)
        os.close(place)
    for port in ports if abi >= 4 else ():
        _call(f"Landlock: port {port}", _ADD_RULE, rules, 2, struct.pack("=QQ", _CONNECT_TCP, port), 0)
    _call("Landlock", _RESTRICT_SELF, rules, 0)
    os.close(rules)
    return abi


def _loader(program: str) -> list[str]:
    """Return the dynamic loader of an ELF program, which the kernel opens to run it."""
    with open(program, "rb") as file:  # noqa: PTH123
        head = file.read(4096)
    if head[:4] != b"\x7fELF":
        return []
    wide = head[4] == 2
    start = struct.unpack_from("<Q", head, 32)[0] if wide else struct.unpack_from("<I", head, 28)[0]
    size, count = struct.unpack_from("<HH", head, 54 if wide else 42)
    for at in range(start, min(start + size * count, len(head) - size + 1), max(size, 1)):
        kind, *rest = struct.unpack_from("<IIQQQQ" if wide else "<IIIII", head, at)
        offset, length = (rest[1], rest[4]) if wide else (rest[0], rest[3])
        if kind == 3:
            return [os.fsdecode(head[offset : offset + length].rstrip(b"\0"))]
    return []


def main(words: list[str]) -> None:
    """Set limits, restrict files, wait for a line, and become the program. Raises `_FailedError` and `OSError`."""
    divide = words.index("--") if "--" in words else len(words)
    options, program = list(zip(words[:divide:2], words[1:divide:2], strict=True)), words[divide + 1 :]
    of: dict[str, list[str]] = {}
    for option, value in options:
        of.setdefault(option, []).append(value)
    trying = "try" in of
    if of["layers"] != ["l"]:
        raise _FailedError("only Landlock works without the launcher")
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.dup2(1, 2)
    os.umask(0o077)
    if not trying:
        os.setsid()
    # Python ignores these, and a program that it becomes would.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if _C.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _FailedError("no new privileges")
    places = [("write", one) for one in of["directory"]] + [("run", one) for one in of.get("run", [])]
    places += [("read", one) for one in (*of.get("read", []), *of.get("preload", []))]
    places += [("read", one) for one in of.get("read-if-there", []) if os.path.exists(one)]  # noqa: PTH110
    places += [("write", one) for one in of.get("write-if-there", []) if os.path.exists(one)]  # noqa: PTH110
    for one in of.get("run", []):
        if os.path.isfile(one):  # noqa: PTH113
            places += [("run", loader) for loader in _loader(one)]
    os.chdir(of["directory"][0])
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    if "parent" in of and (_C.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) or os.getppid() != int(of["parent"][0])):
        os._exit(126)
    abi = landlock(places, [int(one) for one in of.get("port", [])])
    if trying:
        sys.stdout.write(f"{abi}\n")
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(of["cpu"][0]), int(of["hard-cpu"][0])))
    for name, which in (("file-size", resource.RLIMIT_FSIZE), ("open-files", resource.RLIMIT_NOFILE)):
        resource.setrlimit(which, (int(of[name][0]), int(of[name][0])))
    resource.setrlimit(resource.RLIMIT_AS, (int(of["memory"][0]), int(of["memory"][0])))
    if len(os.read(0, 1)) != 1:
        os._exit(126)  # the daemon is gone
    os.dup2(null, 0)
    if "preload" in of:
        os.environ["LD_PRELOAD"] = of["preload"][0]
    os.execv(program[0], program)  # noqa: S606


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (_FailedError, OSError) as error:
        sys.stdout.write(f"digsigd-start: {error}\n")
        sys.stdout.flush()
        os._exit(126)
