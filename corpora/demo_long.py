"""Built-in synthetic recordings of minutes, with valence and arousal over time.

They demonstrate the pipeline, not recognition accuracy. The face shows mostly valence and the voice
mostly arousal, and both vary independently as well. The annotations lag behind and have gaps, and
now and then the person is silent or turns away.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..annotations import DIMENSIONS, Track
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading
from ._demo_face import Expression, Look, draw
from ._demo_video import write_media
from ._demo_voice import CONTROL_RATE, Prosody, Voice, speak

FPS = 10
SIZE = 96
LABEL_RATE = 25
DELAY = 2.4
"""Delay of the annotations in seconds."""


class DemoLong(Corpus):
    """Built-in synthetic recordings of two minutes: valence and arousal every 40 ms."""

    info = CorpusInfo(
        licence="Apache-2.0, as affuse itself",
        citation="affuse, the built-in long corpus; synthetic, no recording of any person",
        source="generated on your machine by affuse.make_long_demo_corpus",
    )

    def read(self, root: Path) -> CorpusReading:
        """Read the corpus that `make_long_demo_corpus` wrote."""
        return CorpusReading(Manifest.read(root / "manifest.csv"))

    def published_counts(self) -> Mapping[str, int]:
        """Return the numbers that `make_long_demo_corpus` generates by default."""
        return {"clips": 10, "speakers": 10}


@dataclass(frozen=True)
class Course:
    """Course of a recording, with one value per control step (`CONTROL_RATE` per second).

    Attributes
    ----------
    valence, arousal : ndarray
        Emotion of the person, about -1 to 1.
    silent, away : ndarray of bool
        Whether the person is silent, and whether the face is turned away.
    """

    valence: np.ndarray
    arousal: np.ndarray
    silent: np.ndarray
    away: np.ndarray


def make_long_demo_corpus(
    folder: str | Path, *, n_speakers: int = 10, seconds: float = 120.0, delay: float = DELAY, seed: int = 0
) -> Manifest:
    """Generate the corpus: one MP4 file and one label file per person, and ``manifest.csv``.

    Parameters
    ----------
    folder : str or Path
        Folder to write.
    n_speakers : int
        Number of speakers, with one recording each.
    seconds : float
        Duration of each recording.
    delay : float
        Delay of the annotations in seconds.
    seed : int
        Seed of the generator; the same seed gives the same frames and samples.
    """
    folder = Path(folder)
    clips = []
    for person in range(n_speakers):
        generator = np.random.default_rng([seed, person])
        name = f"p{person:02d}"
        look, voice = Look.random(generator), Voice.random(generator)
        course = _course(seconds, generator)
        sound = _sound(voice, course, generator)
        path = folder / "media" / f"{name}.mp4"
        write_media(path, _frames(look, course, generator), sound, fps=FPS)
        labels = folder / "labels" / f"{name}.csv"
        annotate(course, delay, generator).write(labels)
        clips.append(Clip(id=name, video=path, speaker=name, labels=labels))
    manifest = Manifest(clips, name="demo-long")
    manifest.write(folder / "manifest.csv")
    return manifest


def annotate(course: Course, delay: float, generator: np.random.Generator) -> Track:
    """Return annotations of a recording: delayed, slightly noisy and with gaps."""
    n_steps = len(course.valence)
    times = np.arange(0, n_steps / CONTROL_RATE, 1 / LABEL_RATE)
    delayed = np.arange(n_steps) / CONTROL_RATE + delay
    columns = [np.interp(times, delayed, x) for x in (course.valence, course.arousal)]
    values = np.stack(columns, axis=1)
    values += 0.05 * np.stack([_wander(len(times), LABEL_RATE, 1.0, generator) for _ in range(2)], 1)
    values[times < delay] = np.nan
    values[_intervals(len(times), LABEL_RATE, 0.05, generator)] = np.nan
    return Track(times, np.clip(values, -1, 1), DIMENSIONS)


def _course(seconds: float, generator: np.random.Generator) -> Course:
    n = round(seconds * CONTROL_RATE)
    valence, arousal = (0.5 * _wander(n, CONTROL_RATE, 8.0, generator) for _ in range(2))
    silent, away = (_intervals(n, CONTROL_RATE, 0.1, generator) for _ in range(2))
    return Course(np.tanh(valence), np.tanh(arousal), silent, away)


def _sound(voice: Voice, course: Course, generator: np.random.Generator) -> np.ndarray:
    independent = [_wander(len(course.arousal), CONTROL_RATE, 6.0, generator) for _ in range(2)]
    arousal = course.arousal + 0.25 * independent[0]
    valence = course.valence + 0.9 * independent[1]
    prosody = Prosody(
        pitch=2 ** (0.5 * arousal + 0.1 * valence),
        swing=np.clip(0.12 + 0.1 * valence, 0.02, 0.4),
        level=np.where(course.silent, -60, 8 * arousal),
        rate=np.clip(4 + 1.5 * arousal, 1.5, 8),
        breath=np.clip(0.3 - 0.3 * arousal, 0, 0.8),
    )
    sound = speak(voice, prosody, len(course.arousal) / CONTROL_RATE, generator).sound
    return (sound + generator.normal(0, 0.003, len(sound))).astype(np.float32)


def _frames(look: Look, course: Course, generator: np.random.Generator) -> Iterator[np.ndarray]:
    n_frames = len(course.valence) * FPS // CONTROL_RATE
    independent = [_wander(n_frames, FPS, 6.0, generator) for _ in range(2)]
    sway = 0.03 * np.stack([_wander(n_frames, FPS, 2.0, generator) for _ in range(3)], axis=1)
    for i in range(n_frames):
        step = i * CONTROL_RATE // FPS
        valence = course.valence[step] + 0.25 * independent[0][i]
        arousal = course.arousal[step] + 0.9 * independent[1][i]
        talk = 0.0 if course.silent[step] else 0.3 * abs(np.sin(2.2 * i))
        face = Expression(
            brow_raise=0.5 * arousal,
            brow_slant=-0.8 * valence,
            eye_open=float(np.clip(1 + 0.35 * arousal, 0.2, 1.6)),
            mouth_curve=float(np.clip(valence, -1, 1)),
            mouth_open=talk,
            tilt=sway[i, 0],
            x=sway[i, 1] + (3.0 if course.away[step] else 0.0),
            y=sway[i, 2],
        )
        noise = generator.normal(0, 4, (SIZE, SIZE, 1))
        yield np.clip(draw(look, face, SIZE) + noise, 0, 255).astype(np.uint8)


def _wander(n: int, rate: float, seconds: float, generator: np.random.Generator) -> np.ndarray:
    """Return smooth noise of unit standard deviation that changes within the given number of seconds."""
    width = max(1, round(seconds * rate))
    kernel = np.hanning(2 * width + 1)
    raw = np.convolve(generator.normal(0, 1, n + 2 * width), kernel, mode="valid")
    return np.asarray(raw / np.sqrt((kernel**2).sum()))


def _intervals(n: int, rate: float, share: float, generator: np.random.Generator) -> np.ndarray:
    """Return a mask of random intervals of three seconds that cover about the given share."""
    length = round(3 * rate)
    marked = np.zeros(n, bool)
    for start in generator.integers(0, max(1, n - length), round(share * n / length)):
        marked[start : start + length] = True
    return marked


plugin = DemoLong
