"""Posteriors in the submission formats of challenges."""

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..cache._commit import atomic_write
from ..errors import PosteriorMismatch, listing
from .labels import MISSING
from .over_time import rows_by_clip
from .posterior import Posterior


def write_abaw(posterior: Posterior, path: Path, *, lengths: Mapping[str, int]) -> None:
    """Write a submission to ABAW's valence-arousal track: one line per frame.

    Parameters
    ----------
    posterior : Posterior
        Valence and arousal over time, one row per frame of each video.
    path : Path
    lengths : mapping of str to int
        Number of frames that the challenge expects of each video, in its order. The last prediction is repeated where
        there are fewer rows; additional rows are dropped.

    Raises
    ------
    PosteriorMismatch
        A video or a dimension is missing.
    """
    clips = rows_by_clip(posterior.ids)
    missing = [d for d in ("valence", "arousal") if d not in posterior.dimensions]
    missing += [video for video in lengths if video not in clips]
    if missing:
        raise PosteriorMismatch(
            f"The posterior has no {listing(missing)}. The submission needs valence and arousal of every frame of "
            "every test video. Predict these, or check the names of the videos."
        )
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("image_location,valence,arousal\n")
        for video, n_frames in lengths.items():
            rows = clips[video]
            for i in range(n_frames):
                row = rows[min(i, len(rows) - 1)]
                v, a = (posterior.dimensions[d][row] for d in ("valence", "arousal"))
                file.write(f"{video}/{i + 1:05d}.jpg,{v:.6g},{a:.6g}\n")


def abaw_lengths(sample: Path) -> dict[str, int]:
    """Return the number of frames of each video in a sample submission, in its order."""
    with sample.open(encoding="utf-8", errors="replace") as file:
        lengths = Counter(line.partition("/")[0] for line in file if "/" in line)
    if not lengths:
        raise PosteriorMismatch(
            f"{sample} lists no frame. Expected lines such as VIDEO/00001.jpg,…. Pass the sample submission of the "
            "challenge."
        )
    return lengths


def write_mer2023(posterior: Posterior, path: Path) -> None:
    """Write a submission to MER 2023: one line per clip with the name of the emotion, and valence if there is any.

    Raises
    ------
    PosteriorMismatch
        A clip has no predicted emotion.
    """
    predicted = posterior.predicted()
    missing = [posterior.ids[row] for row in np.flatnonzero(predicted == MISSING)]
    if missing:
        raise PosteriorMismatch(
            f"{len(missing)} of {len(posterior)} clips have no predicted emotion ({listing(missing)}). The submission "
            "needs one for each clip. Predict these clips too."
        )
    valence = posterior.dimensions.get("valence")
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "discrete", *(["valence"] if valence is not None else [])])
        for row, name in enumerate(posterior.ids):
            value = [] if valence is None else [f"{valence[row]:.6g}"]
            writer.writerow([name, posterior.emotions[predicted[row]], *value])
