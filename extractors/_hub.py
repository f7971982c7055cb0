"""From what a user wrote to files on disk and what identifies them: a hub commit or a digest.

Only safetensors are fetched unless pickled weights are allowed by name, and code from a checkpoint
never runs. What is on disk is used without asking the hub, so a second run needs no network.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ..errors import EncoderError, EnvironmentFailure

CONFIGURATION = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "open_clip_config.json",
    "*.safetensors.index.json",
)
WEIGHTS = (
    "model.safetensors",
    "model-*-of-*.safetensors",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
)
PICKLED = (
    "pytorch_model.bin",
    "pytorch_model-*-of-*.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
    "*.pt",
    "*.pth",
)


class Checkpoint(NamedTuple):
    """Files of one checkpoint.

    Attributes
    ----------
    folder : Path
    name : str
        ``org/name``; empty for a local folder, which is the same wherever it lies.
    revision : str
        Commit, 40 hexadecimal digits; or a digest of the local files.
    pickled : bool
        The weights have to be unpickled, and the caller allowed it.
    """

    folder: Path
    name: str
    revision: str
    pickled: bool

    def identity(self) -> dict[str, str]:
        """Return what goes into an encoder's identity."""
        return {"checkpoint": self.name or "local", "revision": self.revision}


def resolve(
    checkpoint: str,
    *,
    allow_pickle: bool = False,
    weights: tuple[str, ...] = WEIGHTS,
    pickled: tuple[str, ...] = PICKLED,
) -> Checkpoint:
    """Find a checkpoint's files, fetching them where they are not on disk.

    Parameters
    ----------
    checkpoint : str
        A folder, or ``org/name`` with ``@revision`` behind it where wanted. A branch is what it was
        when it was first fetched; a commit is what it is.
    allow_pickle : bool
        Take pickled weights where there are no safetensors.
    weights, pickled : tuple of str
        Names of weight files, safe ones and pickled ones.

    Raises
    ------
    EncoderError
        Missing, gated, or only pickled; the message says what to do.
    EnvironmentFailure
        The hub cannot be reached and the checkpoint is not on disk.
    """
    local = Path(checkpoint).expanduser()
    if local.is_dir():
        safe = _has(local, weights)
        if not safe:
            _insist(checkpoint, [p.name for p in local.iterdir()], pickled, allow_pickle)
        return Checkpoint(local, "", digest_of(local), not safe)
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?", checkpoint):
        raise EncoderError(
            f"found no folder {checkpoint!r}; wanted a folder that is there, or a model on the "
            "hub as org/name or org/name@revision"
        )
    name, _, revision = checkpoint.partition("@")
    revision = revision or "main"
    folder = _on_disk(name, revision, weights)
    if folder is None and allow_pickle:
        folder = _on_disk(name, revision, pickled)
    if folder is None:
        folder = _fetched(name, revision, weights, pickled, allow_pickle)
    return Checkpoint(folder, name, folder.name, not _has(folder, weights))


def _has(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(True for pattern in patterns for _ in folder.glob(pattern))


def _on_disk(name: str, revision: str, wanted: tuple[str, ...]) -> Path | None:
    """Return the folder where these weights are whole; None where they are not."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=[*CONFIGURATION, *wanted], local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    return Path(folder) if _has(Path(folder), wanted) else None


def _fetched(name: str, revision: str, weights: tuple[str, ...], pickled: tuple[str, ...], allow_pickle: bool) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    # The client's HTTP library has changed twice; its errors stay the base of the client's own.
    http_error: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    try:
        info = huggingface_hub.HfApi().model_info(name, revision=revision)
        files = [sibling.rfilename for sibling in info.siblings or []]
        safe = any(Path(file).match(pattern) for file in files for pattern in weights)
        if not safe:
            _insist(name, files, pickled, allow_pickle)
        patterns = [*CONFIGURATION, *(weights if safe else pickled)]
        return Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=patterns))
    except errors.GatedRepoError as error:
        raise EncoderError(
            f"{name} is gated: accept its terms at https://huggingface.co/{name}, then say who you "
            "are with `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise EncoderError(
            f"{name} has no revision {revision!r}; its commits and branches are listed at "
            f"https://huggingface.co/{name}/commits/main"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise EncoderError(
            f"found no model {name} on the hub, nor a folder of that name here; look the name up "
            "at https://huggingface.co/models, or log in with `hf auth login` if it is private"
        ) from error
    except (OSError, errors.HfHubHTTPError, http_error) as error:
        raise EnvironmentFailure(
            f"{name}@{revision} is not on disk and the hub cannot be reached "
            f"({type(error).__name__}); connect, or copy the model's folder here and give its path"
        ) from error


def _insist(checkpoint: str, files: list[str], pickled: tuple[str, ...], allow_pickle: bool) -> None:
    """Raise unless there are pickled weights and they are allowed."""
    found = [file for file in files if any(Path(file).match(pattern) for pattern in pickled)]
    if not found:
        raise EncoderError(f"{checkpoint} holds no weights that affuse reads; wanted one of {', '.join(WEIGHTS)}")
    if not allow_pickle:
        raise EncoderError(
            f"{checkpoint} holds its weights as {', '.join(found)} only, a format that can run "
            "code; name a revision that holds safetensors (often a pull request, @refs/pr/1), or, "
            "where you trust its author, say --allow-pickle (the option allow_pickle=true)"
        )


def digest_of(path: Path) -> str:
    """Return a digest of a local checkpoint, a file or a folder: names and contents.

    Files that kept their size and time of change are not read again by this process.
    """
    digest = hashlib.blake2b(digest_size=20)
    for file in _files(path):
        about = file.stat()
        digest.update(file.relative_to(path).as_posix().encode())
        digest.update(_contents(file, about.st_size, about.st_mtime_ns))
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    else:
        yield from sorted(p for p in path.rglob("*") if p.is_file())


@lru_cache(maxsize=4096)
def _contents(file: Path, size: int, mtime_ns: int) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=20)).digest()
