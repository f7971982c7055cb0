"""Share a run: export it to a folder with a model card, push it to the Hugging Face Hub, open it by its name.

An export holds what prediction needs, in safetensors, TOML and JSON. It holds no clips, labels, paths or predictions
for single clips. Downloaded runs are untrusted input: only files of these formats are fetched and no code in them
is run.
"""

import itertools
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from ..cache._commit import write_text
from ..errors import EnvironmentFailure, RecipeError, StoreError
from ..manifest import Manifest
from ..posteriors.bootstrap import bootstrap
from ..posteriors.labels import Labels
from ..posteriors.metrics import summary, title
from ..posteriors.run_folder import RunFolder
from ..training.dataset import MediaLoading
from ..training.run import Run

NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")
FILES = ("recipe.toml", "run.json", "README.md", "models/*.safetensors")
MODEL_CARD = """---
library_name: affuse
license: {licence}
tags: [emotion-recognition, audio-visual, affuse]
---

# {title}

{about}

This model predicts {targets} from recordings of people. A prediction estimates how annotators would
label the recording. It does not measure what a person feels.

## How to use it

```
affuse predict {name} --features features/ --manifest clips.csv --out posterior.csv
```

The model reads these streams:

{streams}

## Training data

The model was trained on {n_clips} clips of {n_speakers} speakers ({counts}). The clips are not part of this
repository. The licences of the corpus and of the encoders apply to every use of the model.

## Evaluation

Each of the {n_models} models was evaluated on clips that it was not trained on (cross-validation). No speaker
is both in the training part and in the held-out part of a fold, as far as speakers are known. The intervals are 95 %
bootstrap confidence intervals over speakers.

| metric | value | 95 % interval |
| --- | --- | --- |
{scores}

Expect lower scores for other speakers, languages, cultures, cameras and recording conditions. Evaluate the model on
your own labelled recordings before you rely on it.

## Intended use

- Research on affect in recordings of people who consented to it.
- Pre-annotation of recordings, where a person checks every label.
- A baseline for other methods.

## Prohibited and unsuitable use

- In the European Union, it is prohibited to infer the emotions of people at the workplace or in education, except for
  medical or safety reasons (Regulation (EU) 2024/1689, Article 5). In all other cases, people who are exposed to
  emotion recognition must be informed (Article 50).
- Do not use the model for decisions about people, such as hiring, insurance, policing, credit, diagnosis, lie
  detection or surveillance.

## Software

{versions}
"""


def export_run(run: Run, folder: str | Path, *, name: str = "", licence: str = "other") -> Path:
    """Write a run to a folder that others can predict with, including a model card.

    Parameters
    ----------
    run : Run
        Run of a single system whose training is complete.
    folder : str or Path
        Folder that does not exist yet or is empty.
    name : str
        Name on the hub (``org/name``) that the model card shows. Default: the name of the folder.
    licence : str
        Licence identifier of the hub, such as ``cc-by-nc-4.0``.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    RecipeError
        The run has members, or uses an encoder from a folder of this machine.
    StoreError
        The training is not complete, or the folder is not empty.
    """
    folder = Path(folder)
    if run.metadata is None:
        raise RecipeError(f"{run.path} combines several runs. Export each of its members instead.")
    models, expected = run.folder.models, len(run.metadata.seeds) * len(run.metadata.folds)
    if len(models) < expected:
        raise StoreError(
            f"{run.path} holds {len(models)} of {expected} models. Run the same `affuse train` command again to "
            "complete it."
        )
    for stream, settings in run.recipe.encoders.items():
        if settings.checkpoint and Path(settings.checkpoint).expanduser().is_dir():
            raise RecipeError(
                f"encoders.{stream} uses a checkpoint in a folder of this machine ({settings.checkpoint}), which "
                "others do not have. Upload the checkpoint to the hub, train with its name there, and export that run."
            )
    if folder.is_dir() and any(folder.iterdir()):
        raise StoreError(f"{folder} is not empty. Name a folder that does not exist yet.")
    exported = RunFolder(folder)
    run.recipe.write(exported.recipe)
    for seed, fold in itertools.product(run.metadata.seeds, run.metadata.folds):
        path = exported.model(seed, fold)
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(run.folder.model(seed, fold), path)
    metadata = asdict(replace(run.metadata, manifest=""))  # the digest would identify the manifest
    write_text(exported.metadata, json.dumps(metadata, indent=2, default=str) + "\n")
    write_model_card(run, folder / "README.md", name=name or folder.name, licence=licence)
    return folder


def write_model_card(run: Run, path: str | Path, *, name: str, licence: str = "other") -> None:
    """Write a model card: usage, training data, cross-validated scores, and intended and prohibited uses.

    The usage examples open the run by `name`. See `export_run` for the other parameters.
    """
    assert run.metadata is not None
    manifest = Manifest.read(run.folder.manifest)
    trained_on = Manifest((clip for clip in manifest if clip.split != "test"), name=manifest.name)
    counts = Counter(clip.emotion for clip in trained_on if clip.emotion is not None)
    streams = []
    for stream, about in run.metadata.streams.items():
        from_media = stream in run.recipe.encoders
        source = "media files" if from_media else f"the features `{about['key']}` of `affuse extract`"
        streams.append(f"- `{stream}`, read from {source}")
    text = MODEL_CARD.format(
        licence=licence,
        title=run.recipe.name,
        about=run.recipe.about or "An emotion recognition model of the Python package affuse.",
        targets=" and ".join([*(["emotion"] if run.metadata.emotions else []), *run.metadata.dimensions]),
        name=name,
        streams="\n".join(streams),
        n_clips=len(trained_on),
        n_speakers=len(trained_on.speakers) or "an unknown number of",
        counts=", ".join(f"{n} {emotion}" for emotion, n in sorted(counts.items())) or "no emotion labels",
        n_models=len(run.folder.models),
        scores="\n".join(_scores(run, trained_on)),
        versions=", ".join(f"{package} {version}" for package, version in run.metadata.versions.items()),
    )
    write_text(Path(path), text)


def push_to_hub(run: Run, name: str, *, licence: str = "other", private: bool = True) -> str:
    """Push a run with a model card to the Hugging Face Hub.

    Parameters
    ----------
    run : Run
        Run of a single system whose training is complete.
    name : str
        Name on the hub: ``org/name``.
    licence : str
        Licence identifier of the hub, such as ``cc-by-nc-4.0``.
    private : bool
        Whether only the owners can see the repository.

    Returns
    -------
    str
        Address of the repository.

    Raises
    ------
    RecipeError
        The name is not of the form ``org/name``, or the run cannot be exported.
    EnvironmentFailure
        The hub cannot be reached or refuses access.
    """
    if not NAME.fullmatch(name) or "@" in name:
        raise RecipeError(f"Found {name!r}, expected a name on the hub such as my-lab/afg-mer2023.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = export_run(run, Path(temporary) / "model", name=name, licence=licence)
        import huggingface_hub

        problem = f"{name} could not be pushed to the hub. Check the connection, and log in with `hf auth login`."
        with _hub_errors(problem):
            api = huggingface_hub.HfApi()
            api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=folder, commit_message="Push by affuse")
    return f"https://huggingface.co/{name}"


def open_run(run: Run | str | Path, *, loading: MediaLoading = MediaLoading()) -> Run:
    """Open a run: a `Run`, the path of its folder, or its name on the hub.

    Raises
    ------
    StoreError
        No such run exists.
    EnvironmentFailure
        The hub cannot be reached, and the run is not on disk.
    """
    return run if isinstance(run, Run) else Run.open(fetch_run(run), loading=loading)


def fetch_run(name: str | Path) -> Path:
    """Return the folder of a run; download it if `name` is ``org/name[@revision]`` and no folder."""
    path = Path(name)
    if path.is_dir() or not NAME.fullmatch(str(name)):
        return path
    import huggingface_hub
    from huggingface_hub import errors

    repository, _, revision = str(name).partition("@")
    problem = f"{name} is not a folder, and the hub cannot be reached. Check the path or the connection."
    with _hub_errors(problem):
        try:
            folder = huggingface_hub.snapshot_download(repository, revision=revision or None, allow_patterns=[*FILES])
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
            raise StoreError(f"{name} is neither a run folder nor a model on the hub. Check the name.") from error
    return Path(folder)


@contextmanager
def _hub_errors(problem: str) -> Iterator[None]:
    """Re-raise errors of the connection as `EnvironmentFailure`."""
    from huggingface_hub import errors

    # The base class comes from the HTTP library that this version of huggingface_hub uses.
    http_error: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    try:
        yield
    except (OSError, errors.HfHubHTTPError, http_error) as error:
        raise EnvironmentFailure(f"{problem} ({type(error).__name__})") from error


def _scores(run: Run, manifest: Manifest) -> Iterator[str]:
    """Yield the rows of the table of scores on held-out clips."""
    if run.recipe.windows:
        yield "| over time | see `affuse report` | |"
        return
    posterior = run.out_of_fold
    labels = Labels.from_manifest(manifest.subset(posterior.ids), posterior.emotions)
    scores = bootstrap(posterior.at(labels.ids), labels)
    for name in summary(scores.values):
        value, low, high = scores.interval(name)
        yield f"| {title(name)} | {value:.3f} | {low:.3f} to {high:.3f} |"
