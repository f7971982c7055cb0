"""The built-in synthetic corpus: drawn faces and synthetic voices.

It demonstrates the pipeline, not recognition accuracy. Neither modality suffices: angry and worried
look alike, as do neutral and sad; happy and surprise sound alike, as do sad and worried. The other
modality separates each pair, so one modality alone reaches an accuracy of about two thirds, and a
fusion can be nearly perfect.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading
from ._demo_face import Expression, Look, draw
from ._demo_video import write_media
from ._demo_voice import CONTROL_RATE, Prosody, Speech, Voice, speak

FPS = 15
SIZE = 128


@dataclass(frozen=True)
class Display:
    """Facial expression and prosody of an emotion at full strength, and its valence."""

    face: Expression
    voice: Prosody
    valence: float


STILL = Expression(mouth_curve=-0.1)
TENSE = Expression(brow_raise=-0.4, brow_slant=0.9, eye_open=0.75, mouth_curve=-0.7)
SMILE = Expression(brow_raise=0.25, eye_open=0.85, mouth_curve=0.9, mouth_open=0.15)
AMAZED = Expression(brow_raise=1.0, brow_slant=-0.2, eye_open=1.5, mouth_open=0.8)
LEVEL = Prosody(swing=0.05)
HARSH = Prosody(pitch=1.1, swing=0.15, level=11, rate=6.0, breath=0.0, tilt=5)
BRIGHT = Prosody(pitch=1.8, swing=0.35, level=5, rate=5.0, breath=0.0, tilt=2)
FAINT = Prosody(pitch=0.9, swing=0.04, level=-10, rate=2.4, breath=0.6, tilt=-3)

DISPLAYS = {
    "neutral": Display(STILL, LEVEL, 0.0),
    "angry": Display(TENSE, HARSH, -3.0),
    "happy": Display(SMILE, BRIGHT, 3.0),
    "sad": Display(STILL, FAINT, -2.5),
    "worried": Display(TENSE, FAINT, -1.5),
    "surprise": Display(AMAZED, BRIGHT, 0.75),
}


class Demo(Corpus):
    """Built-in synthetic corpus: drawn faces, synthetic voices, 6 emotions, valence."""

    info = CorpusInfo(
        licence="Apache-2.0, as affuse itself",
        citation="affuse, the built-in corpus; synthetic, no recording of any person",
        source="generated on your machine by `affuse demo`",
    )
    emotions = tuple(DISPLAYS)

    def read(self, root: Path) -> CorpusReading:
        """Read the corpus that `make_demo_corpus` wrote."""
        return CorpusReading(Manifest.read(root / "manifest.csv"))

    def published_counts(self) -> Mapping[str, int]:
        """Return the numbers that `make_demo_corpus` generates by default."""
        return {"clips": 180, "speakers": 10, **dict.fromkeys(DISPLAYS, 30)}


def make_demo_corpus(folder: str | Path, *, n_speakers: int = 10, n_repetitions: int = 3, seed: int = 0) -> Manifest:
    """Generate the corpus: one MP4 file per clip below ``media/``, and ``manifest.csv``.

    Parameters
    ----------
    folder : str or Path
        Folder to write.
    n_speakers : int
        Number of speakers.
    n_repetitions : int
        Number of clips per speaker and emotion.
    seed : int
        Seed of the generator; the same seed gives the same frames and samples.
    """
    folder = Path(folder)
    clips = []
    for person in range(n_speakers):
        generator = np.random.default_rng([seed, person])
        look, voice = Look.random(generator), Voice.random(generator)
        for emotion, display in DISPLAYS.items():
            for repetition in range(n_repetitions):
                name = f"s{person:02d}-{emotion}-{repetition}"
                path = folder / "media" / f"{name}.mp4"
                strength = generator.uniform(0.7, 1.0)
                seconds = generator.uniform(1.4, 2.0)
                speech = _speech(voice, display.voice, strength, seconds, generator)
                write_media(path, _frames(look, display.face, strength, speech, generator), speech.sound, fps=FPS)
                valence = display.valence * strength + generator.normal(0, 0.2)
                clips.append(
                    Clip(id=name, video=path, speaker=f"s{person:02d}", emotion=emotion, valence=round(4 * valence) / 4)
                )
    manifest = Manifest(clips, name="demo")
    manifest.write(folder / "manifest.csv")
    return manifest


def _speech(voice: Voice, display: Prosody, strength: float, seconds: float, generator: np.random.Generator) -> Speech:
    mixed = {name: (1 - strength) * rest + strength * getattr(display, name) for name, rest in vars(LEVEL).items()}
    mixed["pitch"] *= 2 ** generator.normal(0, 0.06)
    mixed["level"] += generator.normal(0, 1.0)
    mixed["rate"] += generator.normal(0, 0.3)
    speech = speak(voice, Prosody(**mixed), seconds, generator)
    noise = generator.normal(0, 0.004 * 2 ** generator.normal(0, 0.5), len(speech.sound))
    return Speech((speech.sound + noise).astype(np.float32), speech.loudness)


def _frames(
    look: Look, display: Expression, strength: float, speech: Speech, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield frames in which the expression grows and holds, the lips follow the sound and the head sways."""
    n_frames = int(len(speech.loudness) / CONTROL_RATE * FPS)
    offset = generator.normal(0, 0.12, 5)
    sway = np.cumsum(generator.normal(0, 0.006, (n_frames, 3)), axis=0)
    blink = generator.integers(n_frames)
    for i in range(n_frames):
        grown = strength * min(1.0, 0.5 + 2 * i / n_frames)
        talk = 0.45 * speech.loudness[int(i / FPS * CONTROL_RATE)]
        face = Expression(
            brow_raise=grown * display.brow_raise + offset[0],
            brow_slant=grown * display.brow_slant + offset[1],
            eye_open=0.1 if i == blink else 1 + grown * (display.eye_open - 1) + 0.5 * offset[2],
            mouth_curve=grown * display.mouth_curve + offset[3],
            mouth_open=float(np.clip(grown * display.mouth_open + talk, 0, 1)),
            tilt=0.3 * offset[4] + sway[i, 0],
            x=sway[i, 1],
            y=sway[i, 2],
        )
        frame = draw(look, face, SIZE)
        noise = generator.normal(0, 4, frame.shape[:2])[..., None]
        yield np.clip(frame + noise, 0, 255).astype(np.uint8)


plugin = Demo
