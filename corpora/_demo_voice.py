"""Synthesis of a voice from harmonics and formants, for the built-in corpus.

This is the source-filter model (Fant 1960) in additive form: each harmonic of the pitch is weighted
by the spectral tilt of the source and by the resonances of the vowel at its frequency. Pitch,
loudness, rate and breath may vary over time, so one function serves short clips and long recordings.
"""

from dataclasses import dataclass

import numpy as np

CONTROL_RATE = 100
"""Control steps per second."""
SAMPLING_RATE = 16_000
"""Sampling rate of generated sound in hertz."""
MAX_FREQUENCY = 5000.0
BANDWIDTHS = np.array([80.0, 100.0, 150.0, 250.0])
VOWELS = np.array(
    [
        (730, 1090, 2440, 3400),
        (530, 1840, 2480, 3500),
        (270, 2290, 3010, 3600),
        (570, 840, 2410, 3300),
        (300, 870, 2240, 3300),
    ],
    dtype=float,
)


@dataclass(frozen=True)
class Voice:
    """Voice of one person.

    Attributes
    ----------
    pitch : float
        Pitch at rest in hertz.
    formants : float
        Factor on every formant; larger for a shorter vocal tract.
    tilt : float
        Spectral tilt of the source in dB per octave.
    level : float
        Loudness at rest in dB.
    """

    pitch: float
    formants: float
    tilt: float
    level: float

    @classmethod
    def random(cls, generator: np.random.Generator) -> "Voice":
        """Return the voice of a random person; lower voices have longer vocal tracts."""
        height = generator.uniform(0, 1)
        return cls(
            pitch=float(100 * 2.1**height),
            formants=float(0.95 + 0.2 * height + generator.normal(0, 0.02)),
            tilt=float(generator.uniform(-13, -10)),
            level=float(generator.normal(0, 1)),
        )


@dataclass(frozen=True)
class Prosody:
    """Prosody of an utterance; each value is constant or has one entry per control step.

    Attributes
    ----------
    pitch : float or ndarray
        Factor on the pitch of the voice.
    swing : float or ndarray
        Standard deviation of the pitch over syllables, in octaves.
    level : float or ndarray
        Loudness in dB, added to that of the voice.
    rate : float or ndarray
        Syllables per second.
    breath : float or ndarray
        Breathiness, from 0 for a clear voice to 1 for a whisper.
    tilt : float or ndarray
        Spectral tilt in dB per octave, added to that of the voice; higher for a pressed voice.
    """

    pitch: float | np.ndarray = 1.0
    swing: float | np.ndarray = 0.1
    level: float | np.ndarray = 0.0
    rate: float | np.ndarray = 4.0
    breath: float | np.ndarray = 0.1
    tilt: float | np.ndarray = 0.0


@dataclass(frozen=True)
class Speech:
    """Synthesised speech.

    Attributes
    ----------
    sound : ndarray of float32 [shape=(samples,)]
        Waveform, -1 to 1.
    loudness : ndarray [shape=(control steps,)]
        Loudness of the syllables, 0 to 1, which moves the lips.
    """

    sound: np.ndarray
    loudness: np.ndarray


def speak(voice: Voice, prosody: Prosody, seconds: float, generator: np.random.Generator) -> Speech:
    """Synthesise speech without words."""
    n_steps = round(seconds * CONTROL_RATE)
    steps = np.arange(n_steps)
    rate = np.broadcast_to(prosody.rate, n_steps)
    syllables = np.cumsum(rate) / CONTROL_RATE + generator.uniform()
    index = syllables.astype(int)
    loudness = np.sin(np.pi * (syllables - index)) ** 0.7
    loudness = loudness * generator.uniform(0.75, 1.0, index[-1] + 1)[index]
    accent = generator.normal(0, 1, index[-1] + 1)[index]
    vowels = VOWELS[generator.integers(len(VOWELS), size=index[-1] + 1)][index] * voice.formants
    jitter = _smooth(generator.normal(0, 0.01, n_steps), 3)
    octaves = _smooth(accent, 8) * prosody.swing + jitter - 0.1 * steps / max(n_steps, 1)
    pitch = voice.pitch * prosody.pitch * 2.0**octaves
    gain = 0.05 * 10 ** ((voice.level + np.broadcast_to(prosody.level, n_steps)) / 20)
    breath = np.broadcast_to(prosody.breath, n_steps)
    track = np.stack([pitch, gain * loudness * (1 - 0.7 * breath), gain * loudness * breath])
    samples = np.arange(round(seconds * SAMPLING_RATE)) * (CONTROL_RATE / SAMPLING_RATE)
    f0, voiced, aspirated = (np.interp(samples, steps, row) for row in track)
    formants = np.stack([_smooth(column, 5) for column in vowels.T], axis=1)
    sound = voiced * _harmonics(f0, pitch, formants, voice.tilt + prosody.tilt, samples)
    sound += 0.3 * aspirated * generator.normal(0, 1, len(samples))
    return Speech(np.tanh(sound).astype(np.float32), loudness)


def _harmonics(
    f0: np.ndarray, pitch: np.ndarray, formants: np.ndarray, tilt: float | np.ndarray, samples: np.ndarray
) -> np.ndarray:
    phase = 2 * np.pi * np.cumsum(f0) / SAMPLING_RATE
    steps = np.arange(len(pitch))
    total = np.zeros(len(f0))
    for n in range(1, int(MAX_FREQUENCY / pitch.min()) + 1):
        frequency = n * pitch
        source = 10 ** (tilt * np.log2(n) / 20)
        distance = (frequency[:, None] - formants) / BANDWIDTHS
        resonance = (1 / (1 + distance**2)).sum(axis=1) + 0.02
        weight = np.where(frequency < MAX_FREQUENCY, source * np.sqrt(resonance), 0)
        total += np.interp(samples, steps, weight) * np.sin(n * phase)
    return total * 3


def _smooth(track: np.ndarray, width: int) -> np.ndarray:
    padded = np.pad(track, width, mode="edge")
    kernel = np.hanning(2 * width + 1)
    return np.asarray(np.convolve(padded, kernel / kernel.sum(), mode="valid"))
