"""Runs answer.py of the current folder under limits and an audit hook.

Its source is handed to `python -c MEMORY_MB SECONDS`, so that no file of ours need be readable in the sandbox.
"""

import os
import resource
import sys

FORBIDDEN = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.kill", "os.chroot",
    "os.setuid", "os.putenv", "ctypes.", "pty.", "syslog.", "gc.get_", "resource.", "signal.",
)  # fmt: skip
TOUCHING = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate",
    "os.chdir", "os.utime", "shutil.",
)  # fmt: skip
LISTING = ("os.listdir", "os.scandir", "os.walk")
MODULES = ("ctypes", "_ctypes", "_posixsubprocess", "cffi", "_cffi_backend", "multiprocessing", "_multiprocessing")
HARMLESS = ("/dev/null", "/dev/urandom")


def limit(memory_mb: int, seconds: float) -> None:
    """Bounds what this process may take."""
    bounds = {
        resource.RLIMIT_AS: memory_mb * 1024 * 1024, resource.RLIMIT_CPU: int(seconds) + 1,
        resource.RLIMIT_FSIZE: 10_000_000, resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 64,
    }  # fmt: skip
    for kind, most in bounds.items():
        resource.setrlimit(kind, (most, most))


def forbid_all_but_own() -> None:
    """Lets this process open and change files of its folder, read Python's, and nothing else."""
    real, decode, sep = os.path.realpath, os.fsdecode, os.sep
    home = (real(os.curdir),)
    readable = (*home, *{real(path) for path in (sys.prefix, sys.base_prefix)})
    changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def check(path: object, roots: tuple[str, ...]) -> None:
        if not isinstance(path, str | bytes):
            return
        whole = real(decode(path))
        if whole not in HARMLESS and not any(whole == root or whole.startswith(root + sep) for root in roots):
            raise PermissionError(f"the sandbox keeps away from {whole}")

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event == "open":
            flags = args[2]
            check(args[0], home if isinstance(flags, int) and flags & changing else readable)
        elif event == "import":
            if str(args[0]).partition(".")[0] in MODULES:
                raise PermissionError(f"the sandbox has no module {args[0]}")
        elif event.startswith(LISTING):
            check(args[0], readable)
        elif event.startswith(TOUCHING):
            for path in args[:2]:
                check(path, home)
        elif event.startswith(FORBIDDEN):
            raise PermissionError(f"the sandbox forbids {event}")

    sys.addaudithook(hook)


def main() -> None:
    """Limits itself, then runs the program as if it were called alone."""
    limit(int(sys.argv[1]), float(sys.argv[2]))
    with open("answer.py", encoding="utf-8") as file:  # noqa: PTH123  (pathlib is not needed for more)
        program = compile(file.read(), "answer.py", "exec")
    sys.argv[:] = ["answer.py"]
    forbid_all_but_own()
    exec(program, {"__name__": "__main__"})  # noqa: S102  (what this file is for)


if __name__ == "__main__":
    main()
