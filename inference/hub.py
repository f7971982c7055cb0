"""A run for others: a folder with weights, recipe and card, pushed to the hub and opened by its id.

What goes out is what decoding takes: safetensors, TOML and JSON. Clips, labels, paths and the
posteriors of single clips stay here. What comes in is read as anything from a stranger is: by name
and by format, and nothing of it runs.
"""

import json
import re
import shutil
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

from ..errors import EnvironmentFailure, RecipeError, StoreError
from ..manifest import Manifest
from ..posteriors import bootstrap, metrics
from ..posteriors.labels import Labels
from ..training.run import Run

NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")
FILES = ("recipe.toml", "run.json", "README.md", "models/*.safetensors")
SHOWN = ("accuracy", "uar", "waf", "mer2023", "ccc:valence", "ccc:arousal", "ece")
CARD = """---
library_name: affuse
license: {licence}
tags: [emotion-recognition, audio-visual, affuse]
---

# {title}

{about}

Predicts {targets} of a recording from {streams}. It says what annotators would say of a
recording, not what a person feels.

```
affuse predict {place} --manifest clips.csv -o posterior.csv
```

{media}

## Data

Learnt from `{corpus}`: {n_clips} clips of {n_speakers} speakers ({counts}). The clips are not
part of this model. The corpus's own licence and the encoders' bind whoever uses it.

## Scores

On clips that each model had held out ({n_models} models; speakers on one side of every fold),
with 95 % intervals by bootstrap over speakers:

| figure | value | 95 % |
| --- | --- | --- |
{scores}

On other speakers, languages, cameras and situations the scores are unknown, and usually lower.

## Intended use

Research on affect in recordings whose speakers agreed to it; annotation that a person checks;
baselines.

## Prohibited and unsuitable use

Inferring emotions of people at work or in education is prohibited in the European Union, medical
and safety reasons apart (Regulation (EU) 2024/1689, Article 5); people exposed to emotion
recognition elsewhere have to be told (Article 50). Not for decisions about people: hiring,
insurance, policing, credit, diagnosis, lie detection, or surveillance.

## Made with

{versions}
"""


def bundle(run: Run, folder: str | Path, *, place: str = "", licence: str = "other") -> Path:
    """Write what others need of a run into a folder, with a card.

    Parameters
    ----------
    run : Run
        Of a single system, trained to the end.
    folder : str or Path
        Must not be there, or be empty.
    place : str
        ``org/name`` on the hub, for the card; empty: the folder's name.
    licence : str
        As the hub calls it, such as ``cc-by-nc-4.0``.

    Raises
    ------
    RecipeError
        A run of members, or of encoders that only this machine has.
    StoreError
        Not trained to the end, or the folder holds something.
    """
    folder = Path(folder)
    if run.facts is None:
        raise RecipeError(f"{run.path} is a run of members; export each of them")
    wanted = len(run.facts.seeds) * len(run.facts.folds)
    if len(run.models) < wanted:
        raise StoreError(f"{run.path} holds {len(run.models)} of {wanted} models; train it first")
    here = [
        name
        for name, each in run.recipe.encoders.items()
        if each.checkpoint and Path(each.checkpoint).expanduser().is_dir()
    ]
    if here:
        raise RecipeError(
            f"encoders.{here[0]} stands on a folder of this machine, which nobody else has; put "
            "its checkpoint on the hub, train from its name there, and export that run"
        )
    if folder.is_dir() and any(folder.iterdir()):
        raise StoreError(f"{folder} is not empty; name a folder that is not there yet")
    (folder / "models").mkdir(parents=True, exist_ok=True)
    for model in run.models:
        shutil.copyfile(model, folder / "models" / model.name)
    run.recipe.write(folder / "recipe.toml")
    facts = asdict(replace(run.facts, manifest=""))
    text = json.dumps(facts, indent=2, default=str) + "\n"
    (folder / "run.json").write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(card(run, place or folder.name, licence), encoding="utf-8")
    return folder


def card(run: Run, place: str, licence: str) -> str:
    """Return the model card: data, held-out scores with intervals, what it is and is not for."""
    assert run.facts is not None
    manifest = Manifest.read(run.path / "manifest.csv")
    learnt = Manifest(c for c in manifest if c.split != "test")
    counts = Counter(clip.emotion for clip in learnt if clip.emotion is not None)
    encoders = [f"{name} ({about['key']})" for name, about in run.facts.streams.items()]
    targets = [*(["emotion"] if run.facts.emotions else []), *run.facts.dimensions]
    from_media = sorted(run.recipe.encoders)
    return CARD.format(
        licence=licence,
        title=f"{run.recipe.name} on {learnt.name if learnt.name != 'manifest' else 'a corpus'}",
        about=run.recipe.about or "A system of affuse.",
        targets=" and ".join(targets),
        streams=", ".join(encoders),
        place=place,
        media=f"It reads the clips' media itself ({', '.join(from_media)})."
        if from_media
        else "It wants features of those encoders: `affuse extract` makes them.",
        corpus=manifest.name,
        n_clips=len(learnt),
        n_speakers=len(learnt.speakers) or "unknown",
        counts=", ".join(f"{n} {emotion}" for emotion, n in sorted(counts.items())),
        n_models=len(run.models),
        scores="\n".join(scores(run, learnt)),
        versions=", ".join(f"{name} {number}" for name, number in run.facts.versions.items()),
    )


def scores(run: Run, manifest: Manifest) -> list[str]:
    """Return the rows of the card's table: figures on held-out clips, with intervals."""
    if run.recipe.windows:
        return ["| over time | `affuse report` shows them | |"]
    posterior = run.out_of_fold
    truth = Labels.of(manifest.where(posterior.ids), posterior.emotions)
    posterior = posterior.at(truth.ids)
    figures, draws = metrics.figures(posterior, truth), bootstrap.drawn(posterior, truth)
    shown = [name for name in SHOWN if name in figures and name in draws]
    found = {name: bootstrap.interval(figures[name], draws[name]) for name in shown}
    return [f"| {n} | {i.value:.3f} | {i.low:.3f} to {i.high:.3f} |" for n, i in found.items()]


def push(run: Run, name: str, *, licence: str = "other", private: bool = True) -> str:
    """Push a run to the hub; return its address.

    Parameters
    ----------
    run : Run
    name : str
        ``org/name``.
    licence : str
    private : bool
        Seen by its owners alone, until they say otherwise on the hub.

    Raises
    ------
    EnvironmentFailure
        The hub cannot be reached, or does not know who asks.
    """
    import tempfile

    import huggingface_hub
    from huggingface_hub import errors

    if not NAME.fullmatch(name) or "@" in name:
        raise RecipeError(f"found {name!r}; wanted a name on the hub, such as my-lab/afg-mer2023")
    http_error: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    with tempfile.TemporaryDirectory() as spare:
        folder = bundle(run, Path(spare) / "model", place=name, licence=licence)
        try:
            api = huggingface_hub.HfApi()
            api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=folder, commit_message="Push by affuse")
        except (OSError, errors.HfHubHTTPError, http_error) as error:
            raise EnvironmentFailure(
                f"{name} could not be pushed ({type(error).__name__}); connect, and say who you "
                "are with `hf auth login`"
            ) from error
    return f"https://huggingface.co/{name}"


def fetched(name: str) -> Path:
    """Return the folder of a run: itself, or what the hub holds under ``org/name[@revision]``.

    Raises
    ------
    StoreError
        Neither a folder nor a name.
    EnvironmentFailure
        The hub cannot be reached and the run is not on disk.
    """
    path = Path(name)
    if path.is_dir() or not NAME.fullmatch(name):
        return path
    import huggingface_hub
    from huggingface_hub import errors

    repository, _, revision = name.partition("@")
    http_error: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    try:
        return Path(
            huggingface_hub.snapshot_download(repository, revision=revision or None, allow_patterns=list(FILES))
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise StoreError(f"{name} is neither a run's folder nor a model on the hub") from error
    except (OSError, errors.HfHubHTTPError, http_error) as error:
        raise EnvironmentFailure(
            f"{name} is no folder here, and the hub cannot be reached ({type(error).__name__}); "
            "check the path, or connect"
        ) from error
