"""A file appears whole under its name or not at all, and never over another."""

import contextlib
import ctypes
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from ..errors import EnvironmentFailure

NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
AT_FDCWD, RENAME_NOREPLACE = -100, 1


def commit(spare: Path, place: Path) -> str:
    """Give a finished, synced file beside `place` that name, unless it is taken.

    Returns
    -------
    str
        ``written``, or ``already``.

    Raises
    ------
    EnvironmentFailure
        The file system knows no rename that never overwrites.
    """
    try:
        try:
            os.link(spare, place)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            _rename(spare, place)
    except FileExistsError:
        return "already"
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return "written"


def _rename(spare: Path, place: Path) -> None:
    """Rename by Linux's renameat2, for file systems without hard links."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    names = os.fsencode(spare), os.fsencode(place)
    if call is not None:
        if call(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number))
    raise EnvironmentFailure(
        f"the file system of {place.parent} has neither hard links nor a rename that never "
        "overwrites, so nothing can be committed safely there; give --out a folder on another disk"
    )


def spare_name(place: Path) -> Path:
    """Return a name beside `place` for what is not finished."""
    return place.parent / f".{place.name}.{secrets.token_hex(8)}.tmp"


@contextlib.contextmanager
def writing(folder: Path, n_bytes: int) -> Iterator[None]:
    """Make a folder to write into; what the system refuses becomes an `EnvironmentFailure`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = (
            "free or grant the space and run the same command again, it goes on where it stopped"
            if full
            else "choose a folder that can be written"
        )
        raise EnvironmentFailure(f"cannot write {n_bytes:,} bytes to {folder}: {error.strerror}; {remedy}") from error
