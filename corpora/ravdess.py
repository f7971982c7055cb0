"""RAVDESS: 24 actors speak (and sing) two sentences in 8 emotions, acted at two strengths.

A file's name is its label, seven two-digit fields: modality (01 picture and sound, 02 picture
alone, 03 sound alone), channel (01 speech, 02 song), emotion, intensity, statement, repetition,
actor. The files of one take share the last six; a take is one clip here.
"""

import hashlib
import re
import wave
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from ..errors import ManifestError, UnknownName
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading
from ._files import Files, media, told

NAME = re.compile(r"(0[123])-((0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-([01]\d|2[0-4]))")
CHANNELS = {"speech": ("01",), "song": ("02",), "all": ("01", "02")}
FOLDS = {
    "0": {2, 5, 14, 15, 16},
    "1": {3, 6, 7, 13, 18},
    "2": {10, 11, 12, 19, 20},
    "3": {8, 17, 21, 23, 24},
    "4": {1, 4, 9, 22},
}
SPLITS = {
    "avtca": {"test": {1, 2, 3, 4}, "validation": {5, 6, 7, 8}},
    "self-attention-fusion": {"test": {5, 10, 16, 19}, "validation": {11, 13, 18, 22}},
}


class Ravdess(Corpus):
    """RAVDESS: 24 actors, 8 acted emotions, speech and song, picture and sound.

    Parameters
    ----------
    protocol : str or None
    channel : str
        ``speech``, ``song`` or ``all``.
    """

    facts = CorpusInfo(
        licence="CC BY-NC-SA 4.0",
        citation="Livingstone, Russo (2018). The Ryerson Audio-Visual Database of Emotional "
        "Speech and Song (RAVDESS). PLoS ONE 13(5): e0196391",
        source="zenodo.org/record/1188976, free; no agreement",
    )
    emotions = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    protocols = {
        "folds": "five folds of actors (Luna-Jiménez et al. 2022)",
        "avtca": "actors 1-4 test, 5-8 validation (the fixed split of AVT-CA's code)",
        "self-attention-fusion": "actors 5, 10, 16, 19 test; 11, 13, 18, 22 validation (Chumachenko et al. 2022)",
    }

    def __init__(self, *, protocol: str | None = None, channel: str = "speech") -> None:
        super().__init__(protocol=protocol)
        if channel not in CHANNELS:
            raise UnknownName("channel", channel, CHANNELS)
        self.channel = channel

    def published(self) -> Mapping[str, int]:
        """Return the published counts of the channel."""
        speech = {"neutral": 96, **dict.fromkeys(self.emotions[1:], 192)}
        song = {"neutral": 92, **dict.fromkeys(self.emotions[1:6], 184)}
        both = {e: speech[e] + song.get(e, 0) for e in self.emotions}
        counts = {"speech": speech, "song": song, "all": both}[self.channel]
        n_speakers = 23 if self.channel == "song" else 24
        return {"clips": sum(counts.values()), "speakers": n_speakers, **counts}

    def read(self, root: Path) -> CorpusReading:
        """List the takes; a clip is named after its sound file, or else after its video."""
        takes: defaultdict[str, dict[str, list[Path]]] = defaultdict(dict)
        foreign, double = [], []
        for name, files in media(root).items():
            match = NAME.fullmatch(name)
            if match is None:
                foreign.append(name)
            elif match[3] in CHANNELS[self.channel]:
                takes[match[2]][match[1]] = _one_of(name, files)
                double += [name] if len(files.video) + len(files.audio) > 1 else []
        if not takes:
            raise ManifestError(
                f"{root} holds no {self.channel} file of RAVDESS; wanted names such as 03-01-06-01-02-01-12.wav"
            )
        clips = [self._clip(take, by) for take, by in sorted(takes.items())]
        silent = [c.id for c in clips if c.id.startswith("02")]
        stereo = [c.id for c in clips if c.audio and _channels(c.audio) > 1]
        same = _identical([c.audio or c.video for c in clips])
        notes = (
            *told(len(foreign), "media files do not bear RAVDESS's names, left out", foreign),
            *told(len(double), "files occur twice with equal contents, one is used", double),
            *told(len(silent), "takes have a picture but no sound", silent),
            *told(len(stereo), "sound files are stereo, mixed down when extracted", stereo),
            *told(len(same), "takes are copies of another, kept as distributed", same),
        )
        return CorpusReading(Manifest(clips, name="ravdess"), notes)

    def _clip(self, take: str, by: Mapping[str, list[Path]]) -> Clip:
        _, emotion, *_, actor = take.split("-")
        audio = by.get("03", [None])[0]
        video = by.get("01", by.get("02", [None]))[0]
        modality = next(m for m in ("03", "01", "02") if m in by)
        number = int(actor)
        splits = SPLITS.get(self.protocol or "", {})
        split = next((s for s, actors in splits.items() if number in actors), "train")
        fold = next(f for f, actors in FOLDS.items() if number in actors)
        return Clip(
            id=f"{modality}-{take}",
            video=video,
            audio=audio,
            speaker=f"actor{actor}",
            emotion=self.emotions[int(emotion) - 1],
            split=split if splits else None,
            fold=None if splits else fold,
        )


def _one_of(name: str, files: Files) -> list[Path]:
    """Return the files of one name if they are one; refuse to choose between different ones."""
    paths = files.video + files.audio
    if len({(p.suffix, p.stat().st_size) for p in paths}) > 1:
        raise ManifestError(f"different files are called {name}: {paths[0]}, {paths[1]}; keep one")
    return paths


def _channels(path: Path) -> int:
    if path.suffix.lower() != ".wav":
        return 1
    try:
        with wave.open(str(path)) as file:
            return int(file.getnchannels())
    except (wave.Error, EOFError):
        return 1  # extraction will say what is wrong with it


def _identical(paths: list[Path | None]) -> list[str]:
    """Return the names of files whose bytes are those of an earlier one."""
    by_size: defaultdict[int, list[Path]] = defaultdict(list)
    for path in paths:
        if path is not None:
            by_size[path.stat().st_size].append(path)
    copies = []
    for group in by_size.values():
        seen: set[bytes] = set()
        for path in group if len(group) > 1 else []:
            digest = hashlib.blake2b(path.read_bytes()).digest()
            copies += [path.stem] if digest in seen else []
            seen.add(digest)
    return sorted(copies)


plugin = Ravdess
