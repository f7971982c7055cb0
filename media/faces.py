"""Face detection and tracking: one face is found in the frames of a clip and followed over time.

Faces are detected by YuNet (Wu, Peng and Yu, "YuNet: A tiny millisecond-level face detector",
Machine Intelligence Research 20, 2023) as implemented in OpenCV. The tracking is our own: dynamic
programming finds the best path through all detections of a clip, so that one frame with a larger
face of another person does not move the box; the path is then smoothed over time.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np

from ..errors import EncoderError, EnvironmentFailure

REPOSITORY = "opencv/face_detection_yunet"
FILE = "face_detection_yunet_2023mar.onnx"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
SIDE = 640
"""Side of the square that frames are fitted into, the input size of the YuNet export."""
THRESHOLD = 0.6
"""Minimum score of a detection."""
SMOOTHING = 0.2
"""Standard deviation of the Gaussian that smooths position and size over time, in seconds."""


@dataclass(frozen=True)
class FaceOptions:
    """Options of face crops, from the command line to the decoder and the description of an encoder.

    Attributes
    ----------
    detector : Path or None
        Weights of YuNet as an ONNX file; None downloads the published file from the hub.
    pick : {"largest", "central"}
        Face that is followed where a frame shows several.
    no_face : {"whole", "fail"}
        Treatment of clips without a face: use the whole frame, or report the clip as failed.
    """

    detector: Path | None = None
    pick: Literal["largest", "central"] = "largest"
    no_face: Literal["whole", "fail"] = "whole"

    def located(self) -> "FaceOptions":
        """Return the options with the absolute path of the weights, downloading them if needed."""
        return replace(self, detector=detector_weights(self.detector).resolve())

    def finder(self) -> "FaceFinder":
        """Return a tracker with these options."""
        return FaceFinder(detector_weights(self.detector), pick=self.pick)

    def as_dict(self) -> dict[str, str]:
        """Return the located options as they are stored in ``encoder.json``."""
        return {"detector": str(self.detector), "pick": self.pick, "no_face": self.no_face}

    @classmethod
    def from_dict(cls, stored: Mapping[str, str]) -> Self:
        """Return the options that `as_dict` stored."""
        return cls(**{**stored, "detector": Path(stored["detector"])})  # type: ignore[arg-type]


class FaceTrack(NamedTuple):
    """Position of the face of a clip over time.

    Attributes
    ----------
    times : ndarray [shape=(frames,)]
        Seconds, ascending.
    boxes : ndarray [shape=(frames, 4)]
        Left, top, right and bottom in pixels of the given frames. The boxes are square, include
        the margin, and may extend beyond the frame.
    share : float
        Fraction of the frames in which the face was detected; the other boxes are interpolated.
    """

    times: np.ndarray
    boxes: np.ndarray
    share: float

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return the boxes at other times, shape (len(times), 4); constant beyond both ends."""
        columns = [np.interp(times, self.times, column) for column in self.boxes.T]
        return np.stack(columns, axis=1)


class FaceFinder:
    """Tracker of one face through a clip.

    Parameters
    ----------
    weights : Path
        YuNet as an ONNX file, see `detector_weights`.
    pick : {"largest", "central"}
        Face that is followed where a frame shows several.
    margin : float
        Margin around the face, as a fraction of the side of its box.
    """

    def __init__(self, weights: Path, *, pick: Literal["largest", "central"] = "largest", margin: float = 0.3) -> None:
        import cv2  # here, so that reading FaceOptions does not import it

        self.pick, self.margin = pick, margin
        logging = cv2.utils.logging
        before = logging.setLogLevel(logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns of its own default
        try:
            self._detector = cv2.FaceDetectorYN.create(str(weights), "", (SIDE, SIDE), score_threshold=THRESHOLD)
        except cv2.error as error:
            raise EncoderError(
                f"OpenCV cannot read {weights} as a face detector. Give YuNet as an ONNX file."
            ) from error
        finally:
            logging.setLogLevel(before)

    def track(self, frames: Sequence[np.ndarray], times: np.ndarray) -> FaceTrack | None:
        """Follow the face through RGB frames of one size at ascending times in seconds; None if no frame shows a face.

        The frames have the shape (height, width, 3) and are not reduced; five per second are enough.
        """
        found = [self.faces(frame) for frame in frames]
        seen = [i for i, faces in enumerate(found) if len(faces)]
        if not seen:
            return None
        height, width = frames[0].shape[:2]
        chosen = _path([found[i] for i in seen], self.pick, width, height)
        times = np.asarray(times, dtype=np.float64)
        squares = np.stack([np.interp(times, times[seen], c) for c in _squares(chosen).T], axis=1)
        squares = _smooth(squares, times)
        half = squares[:, 2:] * (1 + self.margin) / 2
        boxes = np.concatenate([squares[:, :2] - half, squares[:, :2] + half], axis=1)
        return FaceTrack(times, boxes, len(seen) / len(frames))

    def faces(self, frame: np.ndarray) -> np.ndarray:
        """Return left, top, right and bottom of every face of one RGB frame, shape (faces, 4)."""
        import cv2

        height, width = frame.shape[:2]
        scale = SIDE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
        canvas[: size[1], : size[0]] = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        _, faces = self._detector.detect(np.ascontiguousarray(canvas[:, :, ::-1]))
        if faces is None:
            return np.empty((0, 4))
        corner, extent = faces[:, :2] / scale, faces[:, 2:4] / scale
        return np.concatenate([corner, corner + extent], axis=1).astype(np.float64)


def detector_weights(path: Path | None = None) -> Path:
    """Return the path of the detector weights: the given file, or the one published by OpenCV.

    The published file is downloaded once from the hub and verified by its digest.
    """
    if path is not None:
        if not path.is_file():
            raise EncoderError(f"Found no face detector at {path}. Give YuNet as an ONNX file.")
        return path
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        fetched = Path(huggingface_hub.hf_hub_download(REPOSITORY, FILE))
    except (OSError, LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise EnvironmentFailure(
            f"The face detector {REPOSITORY}/{FILE} is not on disk and the hub cannot be reached. "
            "Connect to the network, or give the file with --face-detector."
        ) from error
    if hashlib.sha256(fetched.read_bytes()).hexdigest() != SHA256:
        raise EncoderError(
            f"The digest of {fetched} is not that of the published face detector. Delete the file and try again."
        )
    return fetched


def _path(found: list[np.ndarray], pick: str, width: int, height: int) -> np.ndarray:
    """Return one face per frame, shape (frames, 4): the path with the highest score minus jump costs.

    The score of a face is 1 for the largest (or most central) face of the clip and falls to 0. A
    step costs the distance moved in units of the face side, at most 1, so that the path changes to
    another face only where that face scores better for long enough.
    """
    best = max(float(_area(faces).max()) for faces in found)
    total = _score(found[0], pick, best, width, height)
    previous: list[np.ndarray] = []
    for before, now in zip(found, found[1:], strict=False):
        gain = total[None] - _jump(now, before)
        previous.append(gain.argmax(axis=1))
        total = gain.max(axis=1) + _score(now, pick, best, width, height)
    index = int(total.argmax())
    path = [found[-1][index]]
    for faces, back in zip(reversed(found[:-1]), reversed(previous), strict=True):
        index = int(back[index])
        path.append(faces[index])
    return np.stack(path[::-1])


def _score(faces: np.ndarray, pick: str, best: float, width: int, height: int) -> np.ndarray:
    if pick == "largest":
        return np.asarray(_area(faces) / best)
    away = (faces[:, :2] + faces[:, 2:]) / 2 - (width / 2, height / 2)
    return np.asarray(1 - np.hypot(*away.T) / np.hypot(width, height) * 2)


def _jump(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return the cost of each step, shape (faces now, faces before)."""
    here, there = _squares(now)[:, None], _squares(before)[None]
    distance = np.hypot(*np.moveaxis(here[..., :2] - there[..., :2], -1, 0))
    return np.asarray(np.minimum(1, distance / np.minimum(here[..., 2], there[..., 2])))


def _squares(boxes: np.ndarray) -> np.ndarray:
    """Return centre and side of the squares around the boxes, shape (boxes, 3)."""
    extent = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, extent], axis=1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def _smooth(squares: np.ndarray, times: np.ndarray) -> np.ndarray:
    weights = np.exp(-0.5 * ((times[:, None] - times[None]) / SMOOTHING) ** 2)
    return np.asarray(weights @ squares / weights.sum(axis=1, keepdims=True))
