"""Atomic commit: a file appears complete under its name or not at all, and replaces no other file."""

import contextlib
import ctypes
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from ..errors import EnvironmentFailure

LINKS_UNSUPPORTED = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
AT_FDCWD, RENAME_NOREPLACE = -100, 1


def commit(temporary: Path, path: Path) -> str:
    """Give a finished and synced temporary file its final name, unless the name is taken.

    The result is ``written``, or ``already`` where `path` existed. A file system without a rename that never
    overwrites raises `EnvironmentFailure`.
    """
    try:
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in LINKS_UNSUPPORTED:
                raise
            _rename_without_replacing(temporary, path)
    except FileExistsError:
        return "already"
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return "written"


def _rename_without_replacing(temporary: Path, path: Path) -> None:
    """Rename by renameat2 of Linux, for file systems without hard links."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    names = os.fsencode(temporary), os.fsencode(path)
    if call is not None:
        if call(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number))
    raise EnvironmentFailure(
        f"The file system of {path.parent} has neither hard links nor a rename that never overwrites, so files "
        "cannot be committed safely. Choose a folder on another disk with --out."
    )


def temporary_path(path: Path) -> Path:
    """Return an unused hidden name in the folder of `path` for the unfinished file."""
    return path.parent / f".{path.name}.{secrets.token_hex(8)}.tmp"


@contextlib.contextmanager
def writing(folder: Path, n_bytes: int) -> Iterator[None]:
    """Create a folder to write to, and re-raise refusals of the system as `EnvironmentFailure`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "Free some space and run the same command again; it resumes where it stopped."
        else:
            remedy = "Choose a folder that can be written."
        raise EnvironmentFailure(f"Cannot write {n_bytes:,} bytes to {folder}: {error.strerror}. {remedy}") from error


@contextlib.contextmanager
def atomic_write(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, which is created; rename it to `path` once it is written.

    The file is complete or absent under its name, and an older file stays until then. A symbolic link, a device or a
    pipe, such as ``/dev/stdout``, is written directly. With `sync`, the file also survives a power failure.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        yield temporary
        if sync:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file with `atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
