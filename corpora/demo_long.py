"""Long synthetic recordings: valence and arousal at every moment, in face and voice.

Valence shows mostly in the face and arousal mostly in the voice, each a little in the other, and
both modalities wander for reasons of their own. Annotators answer late, leave stretches out, and
now and then the person falls silent or turns away.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..annotations import Track
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading
from ._demo_face import Expression, Look, draw
from ._demo_video import write_media
from ._demo_voice import CONTROL_RATE, Prosody, Voice, speak

FPS = 10
SIZE = 96
LABEL_RATE = 25
DELAY = 2.4
DIMENSIONS = ("valence", "arousal")


class DemoLong(Corpus):
    """Built-in synthetic recordings of two minutes: valence and arousal every 40 ms."""

    facts = CorpusInfo(
        licence="Apache-2.0, as affuse itself",
        citation="affuse, the built-in long corpus; synthetic, no recording of any person",
        source="made on your machine by affuse.corpora.demo_long.make",
    )

    def read(self, root: Path) -> CorpusReading:
        """Read what `make` wrote."""
        return CorpusReading(Manifest.read(root / "manifest.csv"))

    def published(self) -> Mapping[str, int]:
        """Return what `make` makes by default."""
        return {"clips": 10, "speakers": 10}


@dataclass(frozen=True)
class Course:
    """What happens in a recording, one value a control step (`CONTROL_RATE` a second).

    Attributes
    ----------
    valence, arousal : ndarray
        What the person feels, about -1 to 1.
    silent, away : ndarray of bool
        Nothing is said; the face is turned away.
    """

    valence: np.ndarray
    arousal: np.ndarray
    silent: np.ndarray
    away: np.ndarray


def make(
    folder: str | Path, *, n_speakers: int = 10, seconds: float = 120.0, delay: float = DELAY, seed: int = 0
) -> Manifest:
    """Make the corpus: an MP4 and a label file a person, and ``manifest.csv``.

    Parameters
    ----------
    folder : Path
    n_speakers : int
    seconds : float
        Of each recording.
    delay : float
        Seconds after which annotators answer.
    seed : int
    """
    folder = Path(folder)
    clips = []
    for person in range(n_speakers):
        generator = np.random.default_rng([seed, person])
        name = f"p{person:02d}"
        look, voice = Look.drawn(generator), Voice.drawn(generator)
        course = _course(seconds, generator)
        sound = _said(voice, course, generator)
        path = folder / "media" / f"{name}.mp4"
        write_media(path, _frames(look, course, generator), sound, fps=FPS)
        labels = folder / "labels" / f"{name}.csv"
        annotated(course, delay, generator).write(labels)
        clips.append(Clip(id=name, video=path, speaker=name, labels=labels))
    manifest = Manifest(clips, name="demo-long")
    manifest.write(folder / "manifest.csv")
    return manifest


def annotated(course: Course, delay: float, generator: np.random.Generator) -> Track:
    """Return what annotators write down: late, a little unsteady, with stretches left out."""
    n_steps = len(course.valence)
    times = np.arange(0, n_steps / CONTROL_RATE, 1 / LABEL_RATE)
    felt = np.arange(n_steps) / CONTROL_RATE + delay
    columns = [np.interp(times, felt, x) for x in (course.valence, course.arousal)]
    values = np.stack(columns, axis=1)
    values += 0.05 * np.stack([_wander(len(times), LABEL_RATE, 1.0, generator) for _ in range(2)], 1)
    values[times < delay] = np.nan
    values[_stretches(len(times), LABEL_RATE, 0.05, generator)] = np.nan
    return Track(times, np.clip(values, -1, 1), DIMENSIONS)


def _course(seconds: float, generator: np.random.Generator) -> Course:
    n = round(seconds * CONTROL_RATE)
    valence, arousal = (0.5 * _wander(n, CONTROL_RATE, 8.0, generator) for _ in range(2))
    silent, away = (_stretches(n, CONTROL_RATE, 0.1, generator) for _ in range(2))
    return Course(np.tanh(valence), np.tanh(arousal), silent, away)


def _said(voice: Voice, course: Course, generator: np.random.Generator) -> np.ndarray:
    own = [_wander(len(course.arousal), CONTROL_RATE, 6.0, generator) for _ in range(2)]
    excited = course.arousal + 0.25 * own[0]
    pleased = course.valence + 0.9 * own[1]
    prosody = Prosody(
        pitch=2 ** (0.5 * excited + 0.1 * pleased),
        swing=np.clip(0.12 + 0.1 * pleased, 0.02, 0.4),
        level=np.where(course.silent, -60, 8 * excited),
        rate=np.clip(4 + 1.5 * excited, 1.5, 8),
        breath=np.clip(0.3 - 0.3 * excited, 0, 0.8),
    )
    sound = speak(voice, prosody, len(course.arousal) / CONTROL_RATE, generator).sound
    return (sound + generator.normal(0, 0.003, len(sound))).astype(np.float32)


def _frames(look: Look, course: Course, generator: np.random.Generator) -> Iterator[np.ndarray]:
    n_frames = len(course.valence) * FPS // CONTROL_RATE
    own = [_wander(n_frames, FPS, 6.0, generator) for _ in range(2)]
    sway = 0.03 * np.stack([_wander(n_frames, FPS, 2.0, generator) for _ in range(3)], axis=1)
    for i in range(n_frames):
        step = i * CONTROL_RATE // FPS
        pleased = course.valence[step] + 0.25 * own[0][i]
        excited = course.arousal[step] + 0.9 * own[1][i]
        talk = 0.0 if course.silent[step] else 0.3 * abs(np.sin(2.2 * i))
        face = Expression(
            brow_raise=0.5 * excited,
            brow_slant=-0.8 * pleased,
            eye_open=float(np.clip(1 + 0.35 * excited, 0.2, 1.6)),
            mouth_curve=float(np.clip(pleased, -1, 1)),
            mouth_open=talk,
            tilt=sway[i, 0],
            x=sway[i, 1] + (3.0 if course.away[step] else 0.0),
            y=sway[i, 2],
        )
        noise = generator.normal(0, 4, (SIZE, SIZE, 1))
        yield np.clip(draw(look, face, SIZE) + noise, 0, 255).astype(np.uint8)


def _wander(n: int, rate: float, seconds: float, generator: np.random.Generator) -> np.ndarray:
    """Return smooth noise of deviation one whose changes take about so many seconds."""
    width = max(1, round(seconds * rate))
    kernel = np.hanning(2 * width + 1)
    raw = np.convolve(generator.normal(0, 1, n + 2 * width), kernel, mode="valid")
    return np.asarray(raw / np.sqrt((kernel**2).sum()))


def _stretches(n: int, rate: float, share: float, generator: np.random.Generator) -> np.ndarray:
    """Mark stretches of three seconds, together about so large a share."""
    length = round(3 * rate)
    marked = np.zeros(n, bool)
    for start in generator.integers(0, max(1, n - length), round(share * n / length)):
        marked[start : start + length] = True
    return marked


plugin = DemoLong
