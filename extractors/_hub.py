"""Find the files of a checkpoint, in a folder or on the Hugging Face Hub, and identify them by commit or digest.

Only safetensors files are downloaded unless pickled weights are allowed explicitly, and code from a checkpoint is
never executed. Files that are on disk are used without contacting the hub, so a second run needs no network.
"""

import hashlib
import re
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
ALLOW_PICKLE_HINT = "If you trust its author, pass --allow-pickle (the encoder option allow_pickle=true)."


class Checkpoint(NamedTuple):
    """Files of one checkpoint.

    Attributes
    ----------
    folder : Path
    name : str
        ``org/name``; empty for a local folder, whose location is not part of its identity.
    revision : str
        Commit of 40 hexadecimal digits, or a digest of the local files.
    pickled : bool
        Whether the weights are pickled, which the caller has allowed.
    """

    folder: Path
    name: str
    revision: str
    pickled: bool

    def identity(self) -> dict[str, str]:
        """Return the part of the identity of an encoder that depends on the checkpoint."""
        return {"checkpoint": self.name or "local", "revision": self.revision}

    @property
    def title(self) -> str:
        """Name on the hub or path of the folder, for messages."""
        return self.name or str(self.folder)


def resolve(
    checkpoint: str,
    *,
    allow_pickle: bool = False,
    weights: tuple[str, ...] = WEIGHTS,
    pickled: tuple[str, ...] = PICKLED,
    hint: str = "",
) -> Checkpoint:
    """Find the files of a checkpoint, and download them if they are not on disk.

    Parameters
    ----------
    checkpoint : str
        A folder, ``org/name`` or ``org/name@revision``. A branch means the commit that it pointed to when it was
        first downloaded.
    allow_pickle : bool
        Whether pickled weights are accepted if there are no safetensors files.
    weights, pickled : tuple of str
        File name patterns of safe and of pickled weights.
    hint : str
        Sentence that is added to the error if there are no weights of either kind.

    Raises
    ------
    EncoderError
        The checkpoint does not exist, is gated, or has pickled weights only.
    EnvironmentFailure
        The hub cannot be reached and the checkpoint is not on disk.
    """
    local = Path(checkpoint).expanduser()
    if local.is_dir():
        safe = _contains(local, weights)
        if not safe:
            _check_pickled(checkpoint, [p.name for p in local.iterdir()], weights, pickled, allow_pickle, hint)
        return Checkpoint(local, "", digest_of(local), not safe)
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?", checkpoint):
        raise EncoderError(
            f"Found the checkpoint {checkpoint!r}, which is not a folder. Expected the path of a folder, or a model on "
            "the Hugging Face Hub as org/name or org/name@revision."
        )
    name, _, revision = checkpoint.partition("@")
    revision = revision or "main"
    folder = _cached(name, revision, weights)
    if folder is None and allow_pickle:
        folder = _cached(name, revision, pickled)
    if folder is None:
        folder = _download(name, revision, weights, pickled, allow_pickle, hint)
    return Checkpoint(folder, name, folder.name, not _contains(folder, weights))


def _contains(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(True for pattern in patterns for _ in folder.glob(pattern))


def _cached(name: str, revision: str, patterns: tuple[str, ...]) -> Path | None:
    """Return the folder in the cache of the hub that holds complete weights of these names, else None."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=[*CONFIGURATION, *patterns], local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    return Path(folder) if _contains(Path(folder), patterns) else None


def _download(
    name: str, revision: str, weights: tuple[str, ...], pickled: tuple[str, ...], allow_pickle: bool, hint: str
) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    # The HTTP library of the client has changed twice; its errors remain the base of the client's errors.
    http_error: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    try:
        info = huggingface_hub.HfApi().model_info(name, revision=revision)
        files = [sibling.rfilename for sibling in info.siblings or []]
        safe = any(Path(file).match(pattern) for file in files for pattern in weights)
        if not safe:
            _check_pickled(name, files, weights, pickled, allow_pickle, hint)
        patterns = [*CONFIGURATION, *(weights if safe else pickled)]
        return Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=patterns))
    except errors.GatedRepoError as error:
        raise EncoderError(
            f"{name} is gated. Accept its terms at https://huggingface.co/{name}, then log in with `hf auth login`."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise EncoderError(
            f"{name} has no revision {revision!r}. Its commits and branches are listed at "
            f"https://huggingface.co/{name}/commits/main."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise EncoderError(
            f"Found no model {name} on the Hugging Face Hub, and no folder of that name. Look the name up at "
            "https://huggingface.co/models, or log in with `hf auth login` if the model is private."
        ) from error
    except (OSError, errors.HfHubHTTPError, http_error) as error:
        raise EnvironmentFailure(
            f"{name}@{revision} is not on disk and the Hugging Face Hub cannot be reached ({type(error).__name__}). "
            "Connect to the internet, or copy the folder of the model to this machine and give its path."
        ) from error


def _check_pickled(
    checkpoint: str, files: list[str], weights: tuple[str, ...], pickled: tuple[str, ...], allow_pickle: bool, hint: str
) -> None:
    """Raise unless there are pickled weights and they are allowed."""
    found = [file for file in files if any(Path(file).match(pattern) for pattern in pickled)]
    if not found:
        message = f"{checkpoint} contains no weights that this encoder reads. Expected one of {', '.join(weights)}."
        raise EncoderError(f"{message} {hint}".rstrip())
    if not allow_pickle:
        raise EncoderError(
            f"{checkpoint} has pickled weights only ({', '.join(found)}), a format that can execute code. Name a "
            f"revision with safetensors files, often a pull request such as @refs/pr/1. {ALLOW_PICKLE_HINT}"
        )


def digest_of(path: Path) -> str:
    """Return a digest of the names and contents of a local checkpoint, a file or a folder.

    A file whose size and modification time have not changed is read once per process.
    """
    digest = hashlib.blake2b(digest_size=20)
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        about = file.stat()
        digest.update(file.relative_to(path).as_posix().encode())
        digest.update(_contents(file, about.st_size, about.st_mtime_ns))
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def _contents(file: Path, size: int, mtime_ns: int) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=20)).digest()
