"""RAVDESS: 24 actors speak and sing two sentences with 8 emotions at two intensities.

The name of a file is its label, seven two-digit fields: modality (01 video with audio, 02 video only,
03 audio only), channel (01 speech, 02 song), emotion, intensity, statement, repetition, actor. The
files of one take share the last six fields and are one clip here.
"""

import hashlib
import re
import wave
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from ..errors import ManifestError, check_known
from ..manifest import Clip, Manifest
from ._corpus import Corpus, CorpusInfo, CorpusReading, note
from ._files import Files, find_media, match_names

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
    """RAVDESS: 24 actors, 8 acted emotions, speech and song, audio and video.

    Parameters
    ----------
    protocol : str or None
        One of `protocols`; None selects the first.
    channel : str
        ``speech``, ``song`` or ``all``.
    """

    info = CorpusInfo(
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
        check_known("channel", channel, CHANNELS)
        self.channel = channel

    def published_counts(self) -> Mapping[str, int]:
        """Return the published numbers of takes of the channel."""
        speech = {"neutral": 96, **dict.fromkeys(self.emotions[1:], 192)}
        song = {"neutral": 92, **dict.fromkeys(self.emotions[1:6], 184)}
        both = {e: speech[e] + song.get(e, 0) for e in self.emotions}
        counts = {"speech": speech, "song": song, "all": both}[self.channel]
        n_speakers = 23 if self.channel == "song" else 24
        return {"clips": sum(counts.values()), "speakers": n_speakers, **counts}

    def read(self, root: Path) -> CorpusReading:
        """List the takes; a clip is named after its audio file, or else after its video file."""
        matched, others = match_names(find_media(root), NAME)
        takes: defaultdict[str, dict[str, Path]] = defaultdict(dict)
        repeated = []
        for match, files in matched:
            if match[3] in CHANNELS[self.channel]:
                takes[match[2]][match[1]] = _only_file(match[0], files)
                repeated += [match[0]] if len(files.videos) + len(files.audios) > 1 else []
        if not takes:
            raise ManifestError(
                f"{root} holds no {self.channel} file of RAVDESS. Expected names such as 03-01-06-01-02-01-12.wav."
            )
        clips = [self._clip(take, by_modality) for take, by_modality in sorted(takes.items())]
        without_audio = [c.id for c in clips if c.id.startswith("02")]
        stereo = [c.id for c in clips if c.audio and _n_channels(c.audio) > 1]
        copies = _copies([c.audio or c.video for c in clips])
        notes = (
            *note(len(others), "media files without a name of RAVDESS were left out", others),
            *note(len(repeated), "files occur twice with the same content; one of each is used", repeated),
            *note(len(without_audio), "takes have video but no audio", without_audio),
            *note(len(stereo), "audio files are stereo; extraction mixes them down", stereo),
            *note(len(copies), "takes are copies of other takes, kept as distributed", copies),
        )
        return CorpusReading(Manifest(clips, name="ravdess"), notes)

    def _clip(self, take: str, by_modality: Mapping[str, Path]) -> Clip:
        _, emotion, *_, actor = take.split("-")
        number = int(actor)
        splits = SPLITS.get(self.protocol or "", {})
        split = next((s for s, actors in splits.items() if number in actors), "train")
        fold = next(f for f, actors in FOLDS.items() if number in actors)
        return Clip(
            id=f"{next(m for m in ('03', '01', '02') if m in by_modality)}-{take}",
            video=by_modality.get("01", by_modality.get("02")),
            audio=by_modality.get("03"),
            speaker=f"actor{actor}",
            emotion=self.emotions[int(emotion) - 1],
            split=split if splits else None,
            fold=None if splits else fold,
        )


def _only_file(name: str, files: Files) -> Path:
    """Return the file of a name, or the first of several copies of it."""
    paths = files.videos + files.audios
    if len({(p.suffix, p.stat().st_size) for p in paths}) > 1:
        raise ManifestError(f"Found different files with the name {name}: {paths[0]}, {paths[1]}. Keep one of them.")
    return paths[0]


def _n_channels(path: Path) -> int:
    if path.suffix.lower() != ".wav":
        return 1
    try:
        with wave.open(str(path)) as file:
            return int(file.getnchannels())
    except (wave.Error, EOFError):
        return 1  # extraction reports why the file cannot be read


def _copies(paths: list[Path | None]) -> list[str]:
    """Return the names of files with the same content as an earlier file."""
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
