"""Posteriors in the forms that challenges take."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import PosteriorMismatch, listing
from .over_time import parted
from .posterior import Posterior


def write_abaw(posterior: Posterior, path: Path, *, lengths: Mapping[str, int]) -> None:
    """Write the valence-arousal track's submission: a line a frame.

    Parameters
    ----------
    posterior : Posterior
        Over time, with valence and arousal, a moment a frame of each video.
    path : Path
    lengths : mapping of str to int
        Frames that the challenge expects of each video, in its order: a last prediction is
        repeated where there are fewer, the rest is cut.

    Raises
    ------
    PosteriorMismatch
        A video or a dimension is missing.
    """
    clips = parted(posterior.ids)
    absent = [video for video in lengths if video not in clips]
    lacking = [d for d in ("valence", "arousal") if d not in posterior.dimensions]
    if absent or lacking:
        raise PosteriorMismatch(
            f"the posterior lacks {listing([*lacking, *absent])}; the submission needs valence and "
            "arousal at every frame of every video of the test set"
        )
    with path.open("w", encoding="utf-8") as file:
        file.write("image_location,valence,arousal\n")
        for video, n_frames in lengths.items():
            rows = clips[video]
            for i in range(n_frames):
                row = rows[min(i, len(rows) - 1)]
                v, a = (posterior.dimensions[d][row] for d in ("valence", "arousal"))
                file.write(f"{video}/{i + 1:05d}.jpg,{v:.6g},{a:.6g}\n")


def abaw_lengths(sample: Path) -> dict[str, int]:
    """Return how many frames a challenge's sample submission lists of each video, in its order."""
    lengths: dict[str, int] = {}
    with sample.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            video, slash, _ = line.partition("/")
            if slash:
                lengths[video] = lengths.get(video, 0) + 1
    if not lengths:
        raise PosteriorMismatch(f"{sample} lists no frame; wanted lines such as VIDEO/00001.jpg,…")
    return lengths


def write_mer2023(posterior: Posterior, path: Path) -> None:
    """Write MER 2023's submission: a line a clip, the emotion's name, and valence if there is one.

    Raises
    ------
    PosteriorMismatch
        No emotions, or clips without an answer.
    """
    chosen = posterior.chosen() if posterior.emotions else np.full(len(posterior), -1)
    silent = [posterior.ids[row] for row in np.flatnonzero(chosen < 0)]
    if silent:
        raise PosteriorMismatch(
            f"{len(silent)} of {len(posterior)} clips have no emotion in the posterior: "
            f"{listing(silent)}; the submission needs one of each"
        )
    valence = posterior.dimensions.get("valence")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "discrete", *(["valence"] if valence is not None else [])])
        for row, name in enumerate(posterior.ids):
            value = [] if valence is None else [f"{valence[row]:.6g}"]
            writer.writerow([name, posterior.emotions[chosen[row]], *value])
