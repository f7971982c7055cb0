"""Prediction with trained runs: for new recordings, for windows of them, and for clips with features.

The metadata of a run names the features it was trained on, and the feature store records which encoder with
which options made them. New recordings are encoded in the same way, into a temporary store.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from .. import __version__
from ..cache.store import FeatureStore
from ..corpora._folder import scan_files
from ..errors import EncoderError, InvalidValue, MediaError, MissingFeatures
from ..extractors._settings import ExtractionSettings
from ..manifest import Clip, Manifest
from ..media.faces import FaceOptions
from ..posteriors.over_time import rows_by_clip
from ..posteriors.posterior import Posterior
from ..posteriors.provenance import Provenance
from ..posteriors.rules import combine_by_rule
from ..posteriors.timeline import Timeline, windows
from ..training.dataset import MediaLoading
from ..training.run import Run
from .hub import open_run

if TYPE_CHECKING:
    import pandas

Runs = Run | str | Path | Sequence[Run | str | Path]
Media = Manifest | str | Path | Sequence[str | Path]
Progress = Callable[[str, str], None]

ENCODER_FILE = "encoder.json"
FEW_CLIPS = 4
"""Up to this many clips, one worker uses all cores; more clips are shared among single-threaded workers."""


class RequiredEncoder(NamedTuple):
    """An encoder that a run needs, as it was used for the features that the run was trained on.

    `key` is that of the features, and `request` is written as after ``affuse extract -e``.
    """

    key: str
    request: str
    faces: FaceOptions | None
    precision: str


@dataclass(frozen=True)
class Predictions:
    """Predictions for recordings or for the clips of a manifest.

    Attributes
    ----------
    posterior : Posterior
        One row per clip; nan where no prediction is possible.
    manifest : Manifest
        The clips that were predicted.
    failures : list of str
        One line for each clip that could not be decoded, with the reason.
    provenance : Provenance
        Runs that predicted, and the clips that they were trained on.
    notices : list of str
        Sentences that a user of the predictions should read.
    """

    posterior: Posterior
    manifest: Manifest
    failures: list[str]
    provenance: Provenance
    notices: list[str] = field(default_factory=list)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the posterior as a data frame; see `Posterior.to_pandas`."""
        return self.posterior.to_pandas()

    def records(self) -> list[dict[str, object]]:
        """Return one record per clip with a prediction: its id, emotion, probabilities and dimensions.

        The emotion is the most probable one. Numbers are rounded to four decimals; an unknown one is None.
        """
        ids, known = self.posterior.ids, self.posterior.has_prediction()
        posterior = self.posterior.at([clip for clip, answered in zip(ids, known, strict=True) if answered])
        columns = dict(zip(posterior.emotions, posterior.probabilities.T, strict=True)) | dict(posterior.dimensions)
        predicted = posterior.predicted() if posterior.emotions else [-1] * len(posterior)
        return [
            {"id": clip, "emotion": posterior.emotions[emotion] if emotion >= 0 else None}
            | {name: None if np.isnan(v[row]) else round(float(v[row]), 4) for name, v in columns.items()}
            for row, (clip, emotion) in enumerate(zip(posterior.ids, predicted, strict=True))
        ]

    def write(self, path: str | Path) -> None:
        """Write the posterior as CSV, and its provenance as JSON beside it."""
        self.posterior.write(Path(path))
        self.provenance.write(Path(path))


class TimelinePredictions(NamedTuple):
    """Predictions over time: one timeline per recording, and one line per recording that failed."""

    timelines: list[Timeline]
    failures: list[str]


def predict(
    runs: Runs,
    media: Media,
    *,
    features: FeatureStore | str | Path = "features",
    device: str = "auto",
    loading: MediaLoading = MediaLoading(),
    progress: Progress = lambda clip, code: None,
) -> Predictions:
    """Predict the emotions of recordings with trained runs.

    The posterior is the mean over the models of all folds, seeds and runs.

    Parameters
    ----------
    runs : Run, path, or a sequence of them
        Runs, their folders, or their names on the Hugging Face Hub (``org/name[@revision]``).
    media : path, sequence of paths, or Manifest
        Video and audio files, folders that hold such files, or a manifest of clips.
    features : FeatureStore or path
        Feature store that the runs were trained on. It records which encoders to use.
    device : str
        Device for encoders and models: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    loading : MediaLoading
        Settings for decoding where a run reads media directly.
    progress : callable
        Function that is called with the id and the outcome code of each decoded clip.

    Returns
    -------
    Predictions
        One row per recording, and the recordings that could not be decoded.

    Raises
    ------
    ManifestError
        A path is not a recording.
    StoreError
        A run does not exist.
    MissingFeatures
        The store does not record how the features were made.
    EncoderError
        An encoder now makes other features than those that the run was trained on.
    """
    opened = open_runs(runs, loading=loading)
    clips = list_recordings(media)
    posterior, failures = _encode_and_predict(opened, clips, features, device, loading.face_detector, progress)
    return _with_provenance(opened, clips, posterior, failures)


def predict_timelines(
    runs: Runs,
    media: Media,
    *,
    every: float,
    window: float = 4.0,
    smooth: float = 0.0,
    features: FeatureStore | str | Path = "features",
    device: str = "auto",
    loading: MediaLoading = MediaLoading(),
    progress: Progress = lambda clip, code: None,
) -> TimelinePredictions:
    """Predict emotions over time, for overlapping windows of recordings.

    Parameters
    ----------
    every : float
        Seconds between two predictions.
    window : float
        Length of the window that each prediction is based on, in seconds.
    smooth : float
        Length of a centred moving average over the predictions, in seconds; 0 for none.
    runs, media, features, device, loading, progress
        See `predict`, which also raises the same errors.

    Returns
    -------
    TimelinePredictions
        A timeline for each recording with at least one prediction, and the windows that failed.
    """
    if not (every > 0 and window > 0 and smooth >= 0):
        raise InvalidValue(
            f"Found every={every}, window={window} and smooth={smooth}. Expected seconds: every and window above 0, "
            "smooth 0 or more."
        )
    opened = open_runs(runs, loading=loading)
    recorded = list_recordings(media)
    clips = cut_windows(recorded, every=every, window=window)
    posterior, failures = _encode_and_predict(opened, clips, features, device, loading.face_detector, progress)
    found = list(_timelines(posterior, clips, recorded, every))
    return TimelinePredictions([each.smoothed(smooth) for each in found] if smooth else found, failures)


def predict_clips(
    runs: Runs,
    manifest: Manifest | str | Path,
    features: FeatureStore | str | Path = "features",
    *,
    streams: Sequence[str] = (),
    device: str = "auto",
    loading: MediaLoading = MediaLoading(),
) -> Predictions:
    """Predict the clips of a manifest whose features have been extracted.

    Parameters
    ----------
    manifest : Manifest or path
        Clips to predict; labels are ignored.
    features : FeatureStore or path
        Feature store that holds the features of the clips.
    streams : sequence of str
        ``NAME=KEY`` for streams whose features have another key than in training.
    runs, device, loading
        See `predict`.

    Raises
    ------
    MissingFeatures
        The store lacks the features of a stream.
    """
    opened = open_runs(runs, loading=loading)
    manifest, store = Manifest.of(manifest), FeatureStore.of(features)
    posteriors = [run.predict(manifest, store, streams=streams, device=device) for run in opened]
    return _with_provenance(opened, manifest, combine_by_rule(posteriors), [])


def open_runs(runs: Runs, *, loading: MediaLoading = MediaLoading()) -> list[Run]:
    """Open one or several runs: `Run` objects, folders, or names on the hub."""
    each = [runs] if isinstance(runs, Run | str | Path) else runs
    return [open_run(run, loading=loading) for run in each]


def list_recordings(media: Media) -> Manifest:
    """Return media files, and those in folders, as clips; a manifest is returned as it is.

    Each recording counts as a speaker of its own.
    """
    if isinstance(media, Manifest):
        return media
    clips = scan_files([media] if isinstance(media, str | Path) else media)
    return Manifest(
        (Clip(c.id, video=c.video, audio=c.audio, speaker=f"recording {c.id}") for c in clips), name="recordings"
    )


def cut_windows(manifest: Manifest, *, every: float, window: float) -> Manifest:
    """Return windows of recordings as clips, with the ids ``NAME@SECONDS`` of the windows' middles."""
    from ..media.read import length

    clips = []
    for clip in manifest:
        path = clip.video or clip.audio
        assert path is not None
        try:
            duration = length(path)
        except MediaError:  # kept as one clip, so that extraction reports why it cannot be decoded
            clips.append(replace(clip, id=f"{clip.id}@0.0000"))
            continue
        for i, (start, end) in enumerate(windows(duration, every=every, window=window)):
            middle = (i * every + min((i + 1) * every, duration)) / 2
            clips.append(replace(clip, id=f"{clip.id}@{middle:.4f}", start=start, end=end))
    return Manifest(clips, name=manifest.name)


def required_encoders(run: Run, store: FeatureStore) -> list[RequiredEncoder]:
    """Return the encoders that a run needs, from the records of the features it was trained on."""
    if run.metadata is None:
        return [each for member in run.members for each in required_encoders(member, store)]
    return [
        _required_encoder(store, str(stream["key"]), stream["specification"])
        for name, stream in run.metadata.streams.items()
        if "key" in stream and name not in run.recipe.encoders
    ]


def _required_encoder(store: FeatureStore, key: str, specification: dict[str, Any]) -> RequiredEncoder:
    path = store.path / key / ENCODER_FILE
    if not path.is_file():
        raise MissingFeatures(
            f"The run was trained on the features {key}, but {store.path} does not record how they were made. Pass "
            "the folder that `affuse extract` wrote as --features. Features that were imported from other tools "
            "cannot be computed for new recordings."
        )
    recorded = json.loads(path.read_text(encoding="utf-8"))["asked"]
    options = recorded["options"] | {
        "layers": "+".join(map(str, specification["layers"])),
        "how": specification["how"],
        "pool": specification["pool"],
        "store_dtype": specification["dtype"],
    }
    encoder = f"{recorded['family']}:{recorded['checkpoint']}"
    request = ",".join([encoder, *(f"{name}={value}" for name, value in options.items())])
    faces = None if recorded["faces"] is None else FaceOptions.from_dict(recorded["faces"])
    return RequiredEncoder(key, request, faces, str(specification["identity"]["precision"]))


def _encode_and_predict(
    runs: Sequence[Run],
    clips: Manifest,
    features: FeatureStore | str | Path,
    device: str,
    face_detector: Path | None,
    progress: Progress,
) -> tuple[Posterior, list[str]]:
    """Encode clips into a temporary store; return the runs' mean posterior and the failures."""
    trained_on = FeatureStore.of(features)
    encoders = {each.key: each for run in runs for each in required_encoders(run, trained_on)}
    with tempfile.TemporaryDirectory(prefix="affuse-") as folder:
        store = FeatureStore(Path(folder))
        # Encoders that decode together report the same failure, which is listed once.
        failed = dict.fromkeys(_extract(clips, encoders.values(), store, device, face_detector, progress))
        posterior = combine_by_rule([run.predict(clips, store, device=device) for run in runs])
    failures = [f"{clip}: {code}, {reason}" for clip, code, reason in failed]
    # Runs that read media themselves do not report the clips that they cannot decode.
    missing = {clip for clip, known in zip(posterior.ids, posterior.has_prediction(), strict=True) if not known}
    missing -= {clip for clip, _, _ in failed}
    failures += [f"{clip}: no stream of the runs can be read from it" for clip in clips.ids if clip in missing]
    return posterior, failures


def _extract(
    clips: Manifest,
    encoders: Iterable[RequiredEncoder],
    store: FeatureStore,
    device: str,
    face_detector: Path | None,
    progress: Progress,
) -> Iterator[tuple[str, str, str]]:
    """Extract features for the encoders; yield id, code and reason of each failure."""
    from ..engines._extraction import Extraction

    groups: dict[tuple[str, FaceOptions], list[RequiredEncoder]] = {}
    for each in encoders:
        groups.setdefault((each.precision, each.faces or FaceOptions()), []).append(each)
    for (precision, faces), group in groups.items():
        settings = ExtractionSettings(
            threads=torch.get_num_threads() if len(clips) <= FEW_CLIPS else 1,
            device=device,
            precision=precision,
            faces=replace(faces, detector=face_detector) if face_detector else faces,
        )
        extraction = Extraction(clips, [each.request for each in group], store, settings=settings)
        keys = {each.key for each in extraction.specifications}
        changed = [each for each in group if each.key not in keys]
        if changed:
            raise EncoderError(
                f"{changed[0].request} now makes the features {', '.join(sorted(keys))}, but the run was trained on "
                f"{changed[0].key}. The checkpoint, its code or a library has changed since; extract the features "
                "and train again."
            )
        yield from ((f.id, f.code, f.reason) for f in extraction.run(progress).failures)


def _timelines(posterior: Posterior, clips: Manifest, recorded: Manifest, every: float) -> Iterator[Timeline]:
    """Yield the timeline of each recording that has a prediction for at least one window."""
    rows = rows_by_clip(posterior.ids)
    for clip in recorded:
        part = posterior.at([posterior.ids[row] for row in rows[clip.id]])
        if not part.has_prediction().any():
            continue
        start = np.arange(len(part)) * every
        last = clips.by_id[part.ids[-1]].end
        end = np.append(start[1:], last if last is not None else start[-1] + every)
        media = clip.video or clip.audio
        yield Timeline(clip.id, start, end, part.emotions, part.probabilities, part.dimensions, media)


def _with_provenance(runs: Sequence[Run], clips: Manifest, posterior: Posterior, failures: list[str]) -> Predictions:
    trained_on: dict[str, None] = {}
    notices = []
    for run in runs:
        known, held_out = run.trained_on(clips), run.held_out(clips)
        trained_on.update(dict.fromkeys(known))
        if known:
            notices.append(
                f"All models of {run.path} were trained on {len(known)} of these clips. Do not score the predictions "
                "for these clips."
            )
        if held_out:
            notices.append(
                f"{len(held_out)} of these clips belong to the training data of {run.path}. They are predicted only "
                "by the models that were not trained on them."
            )
    made_by = f"affuse {__version__}, predict of {', '.join(str(run.path) for run in runs)}"
    provenance = Provenance(made_by, learnt_from=list(trained_on))
    return Predictions(posterior, clips, failures, provenance, notices)
