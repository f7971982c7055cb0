"""The clip's face: found in its frames by YuNet, followed over time, smoothed into one track.

Wu, Peng & Yu, "YuNet: A tiny millisecond-level face detector", MIR 20, 2023, through OpenCV. Whom
to follow, and how smoothly, is ours: the path through the detections that is best in all, by
dynamic programming, so that one frame with a larger stranger does not make the box jump.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np

from ..errors import EncoderError, EnvironmentFailure

REPOSITORY = "opencv/face_detection_yunet"
FILE = "face_detection_yunet_2023mar.onnx"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
SIDE = 640
"""Pictures are brought into a square of this side, the size that YuNet's export is made for."""


class FaceTrack(NamedTuple):
    """Where the clip's face is.

    Attributes
    ----------
    times : ndarray [shape=(frames,)]
        Seconds, ascending.
    boxes : ndarray [shape=(frames, 4)]
        Left, top, right, bottom in pixels of the frames that were given; square, with the margin,
        and possibly beyond the picture's edges.
    share : float
        Of the frames in which the face was seen; the others' boxes are filled in.
    """

    times: np.ndarray
    boxes: np.ndarray
    share: float

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return the boxes at other times, shape (len(times), 4); held beyond both ends."""
        columns = [np.interp(times, self.times, column) for column in self.boxes.T]
        return np.stack(columns, axis=1)


class FaceFinder:
    """Follows one face through a clip.

    Parameters
    ----------
    weights : Path
        YuNet as ONNX; `detector_weights` finds it.
    pick : str
        Whom to follow where there are several: the ``largest`` or the most ``central`` face.
    margin : float
        Added to the box's side, as a share of it.
    threshold : float
        Least score of a detection.
    smoothing : float
        Width of the Gaussian that smooths centre and side over time, seconds.

    Raises
    ------
    EncoderError
        The weights are no detector that OpenCV reads.
    """

    def __init__(
        self,
        weights: Path,
        *,
        pick: Literal["largest", "central"] = "largest",
        margin: float = 0.3,
        threshold: float = 0.6,
        smoothing: float = 0.2,
    ) -> None:
        self.weights, self.pick, self.margin = weights, pick, margin
        self.threshold, self.smoothing = threshold, smoothing
        logging = cv2.utils.logging
        before = logging.setLogLevel(logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns of its own default
        try:
            self._detector = cv2.FaceDetectorYN.create(str(weights), "", (SIDE, SIDE), score_threshold=threshold)
        except cv2.error as error:
            raise EncoderError(f"{weights} is no face detector that OpenCV reads; wanted YuNet as ONNX") from error
        finally:
            logging.setLogLevel(before)

    def track(self, frames: Sequence[np.ndarray], times: np.ndarray) -> FaceTrack | None:
        """Follow the face.

        Parameters
        ----------
        frames : sequence of ndarray of uint8 [shape=(height, width, 3)]
            RGB, all of one size, as large as decoded; five a second are enough.
        times : ndarray [shape=(frames,)]
            Seconds, ascending.

        Returns
        -------
        FaceTrack or None
            None where no frame shows a face.
        """
        found = [self.faces(frame) for frame in frames]
        seen = [i for i, faces in enumerate(found) if len(faces)]
        if not seen:
            return None
        height, width = frames[0].shape[:2]
        chosen = _path([found[i] for i in seen], self.pick, width, height)
        times = np.asarray(times, dtype=np.float64)
        squares = np.stack([np.interp(times, times[seen], c) for c in _squares(chosen).T], axis=1)
        squares = _smooth(squares, times, self.smoothing)
        half = squares[:, 2:] * (1 + self.margin) / 2
        boxes = np.concatenate([squares[:, :2] - half, squares[:, :2] + half], axis=1)
        return FaceTrack(times, boxes, len(seen) / len(frames))

    def faces(self, frame: np.ndarray) -> np.ndarray:
        """Return every face of one RGB frame: left, top, right, bottom; shape (faces, 4)."""
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
    """Return the detector's weights: the file given, or OpenCV's, fetched once from the hub.

    Raises
    ------
    EncoderError
        The file is not there, or what the hub sent is not what was published.
    EnvironmentFailure
        The hub cannot be reached and the file is not on disk.
    """
    if path is not None:
        if not path.is_file():
            raise EncoderError(f"found no face detector at {path}; wanted YuNet's ONNX file")
        return path
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        fetched = Path(huggingface_hub.hf_hub_download(REPOSITORY, FILE))
    except (OSError, LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise EnvironmentFailure(
            f"the face detector {REPOSITORY}/{FILE} is not on disk and the hub cannot be reached; "
            "connect, or give the file with --face-detector"
        ) from error
    if hashlib.sha256(fetched.read_bytes()).hexdigest() != SHA256:
        raise EncoderError(f"{fetched} is not the face detector that was published; delete it")
    return fetched


def _path(found: list[np.ndarray], pick: str, width: int, height: int) -> np.ndarray:
    """Return one face a frame, shape (frames, 4): the path of most merit and least jumps.

    A face's merit is 1 for the largest (most central) there is and falls to 0; a step costs its
    distance in sides of a face, at most 1, so leaving a face pays only for a better one.
    """
    best = max(float(_area(faces).max()) for faces in found)
    total = _merit(found[0], pick, best, width, height)
    came: list[np.ndarray] = []
    for before, now in zip(found, found[1:], strict=False):
        gain = total[None] - _jump(now, before)
        came.append(gain.argmax(axis=1))
        total = gain.max(axis=1) + _merit(now, pick, best, width, height)
    index = int(total.argmax())
    path = [found[-1][index]]
    for faces, back in zip(reversed(found[:-1]), reversed(came), strict=True):
        index = int(back[index])
        path.append(faces[index])
    return np.stack(path[::-1])


def _merit(faces: np.ndarray, pick: str, best: float, width: int, height: int) -> np.ndarray:
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
    """Return centre and side of the squares around boxes, shape (boxes, 3)."""
    extent = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, extent], axis=1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def _smooth(squares: np.ndarray, times: np.ndarray, width: float) -> np.ndarray:
    weights = np.exp(-0.5 * ((times[:, None] - times[None]) / width) ** 2)
    return np.asarray(weights @ squares / weights.sum(axis=1, keepdims=True))
