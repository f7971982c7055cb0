"""Twenty ways to score clips that something was fitted on: each is planted and reported with its ids."""

import dataclasses
import shutil

import numpy as np
import pytest

from affuse.errors import LeakError
from affuse.manifest import Clip, Manifest
from affuse.posteriors import leaks
from affuse.posteriors.cross_fitting import assign_folds
from affuse.posteriors.evaluation import evaluate
from affuse.posteriors.labels import Labels
from affuse.posteriors.posterior import Posterior, softmax
from affuse.posteriors.provenance import Provenance
from affuse.posteriors.pseudo_labels import pseudo_labels
from affuse.posteriors.systems import System

EMOTIONS = ("happy", "sad")


def corpus(tmp_path, sides="fold"):
    """24 clips of 8 speakers, media of different bytes, without a leak."""
    clips = []
    for i in range(24):
        path = tmp_path / f"clip{i}.wav"
        path.write_bytes(bytes([i]) * 64)
        speaker = i // 3
        side = {"fold": str(speaker % 4)} if sides == "fold" else {"split": _split(speaker)}
        clips.append(Clip(f"clip{i}", audio=path, speaker=f"actor {speaker}", emotion=EMOTIONS[i % 2], **side))
    return clips


def _split(speaker):
    return "test" if speaker == 7 else "validation" if speaker == 6 else "train"


def changed(clips, index, **what):
    return [dataclasses.replace(c, **what) if i == index else c for i, c in enumerate(clips)]


def copied(clips, source, target):
    shutil.copy(clips[source].audio, clips[target].audio)
    return clips


def setting(index, **what):
    """Return a function that changes one clip; a value may be a function of all clips."""

    def plant(clips):
        found = {k: v(clips) if callable(v) else v for k, v in what.items()}
        return changed(clips, index, **found)

    return plant


def overlapping(clips):
    clips = changed(clips, 0, audio=clips[5].audio, start=0.0, end=2.0)
    return changed(clips, 5, start=1.0, end=3.0)


def file_of(index):
    return lambda clips: clips[index].audio


MADE = "pseudo-label: a & b agree"
SPLITS = {
    "a speaker in two folds": ("fold", setting(0, speaker="actor 1"), "clip0"),
    "a speaker written in another case": ("fold", setting(0, speaker="Actor 1"), "clip0"),
    "a speaker written with a space more": ("fold", setting(0, speaker="actor  1 "), "clip0"),
    "a speaker in training and test": ("split", setting(0, speaker="actor 7"), "clip0"),
    "a speaker in training and validation": ("split", setting(0, speaker="actor 6"), "clip0"),
    "a speaker in validation and test": ("split", setting(18, speaker="actor 7"), "clip18"),
    "one file under two ids in two folds": ("fold", setting(0, audio=file_of(5)), "clip5"),
    "one file in training and test": ("split", setting(0, audio=file_of(23)), "clip23"),
    "overlapping parts of one file": ("fold", overlapping, "clip5"),
    "a copied file in two folds": ("fold", lambda clips: copied(clips, 0, 5), "clip5"),
    "a copied file in training and test": ("split", lambda clips: copied(clips, 0, 23), "clip23"),
    "an id with an ending": ("fold", setting(0, id="clip5.mp4"), "clip5.mp4"),
    "an id in another case": ("split", setting(0, id="CLIP23"), "CLIP23"),
    "a pseudo-label in a fold that is scored": ("fold", setting(0, source=MADE), "clip0"),
    "a pseudo-label under test": ("split", setting(23, source=MADE), "clip23"),
}


@pytest.mark.parametrize("case", SPLITS)
def test_a_leak_across_the_split_is_refused(tmp_path, case):
    sides, plant, named = SPLITS[case]
    clips = corpus(tmp_path, sides)
    assert leaks.find(Manifest(clips)) == []
    with pytest.raises(LeakError) as refused:
        leaks.check(Manifest(plant(clips)))
    assert named in str(refused.value)


def predictions(clips):
    rows = softmax(np.random.default_rng(0).normal(size=(len(clips), 2)))
    return Posterior(tuple(c.id for c in clips), EMOTIONS, rows)


def fitted_on(clips, scored):
    """Return predictions for `scored` whose weights were fitted on `clips`."""
    provenance = Provenance("weights by hand", fitted_on=[c.id for c in clips], cross_fitted=False)
    return System("a", predictions(scored), provenance=provenance)


def test_weights_fitted_on_the_scored_clips_are_refused(tmp_path):
    clips = corpus(tmp_path)
    with pytest.raises(LeakError, match="clip0"):
        evaluate(fitted_on(clips[:3], clips), Manifest(clips), n_resamples=2)


def test_weights_fitted_on_other_clips_of_the_scored_speakers_are_refused(tmp_path):
    clips = corpus(tmp_path)
    with pytest.raises(LeakError, match="clip0"):
        evaluate(fitted_on(clips[1:3], clips[:1]), Manifest(clips), n_resamples=2)
    evaluate(fitted_on(clips[6:], clips[:1]), Manifest(clips), n_resamples=2)


def test_folds_that_divide_a_speaker_are_refused(tmp_path):
    clips = changed(corpus(tmp_path), 0, fold="1")
    with pytest.raises(LeakError, match="actor 0"):
        assign_folds(Labels.from_manifest(Manifest(clips), EMOTIONS))


def test_scoring_pseudo_labels_is_refused(tmp_path):
    clips = [dataclasses.replace(c, split=None, fold=None) for c in corpus(tmp_path)]
    clips = changed(clips, 3, source="pseudo-label: a & b agree")
    with pytest.raises(LeakError, match="clip3"):
        evaluate(predictions(clips), Manifest(clips), n_resamples=2)


def test_no_pseudo_labels_for_test_clips_their_speakers_and_their_recordings(tmp_path):
    clips = [dataclasses.replace(c, emotion=None) for c in corpus(tmp_path, "split")]
    clips = changed(changed(clips, 0, speaker="actor 7"), 3, audio=clips[23].audio)
    rows = np.tile([[0.9, 0.1], [0.1, 0.9]], (12, 1))
    found = pseudo_labels([Posterior(tuple(c.id for c in clips), EMOTIONS, rows)], Manifest(clips))
    ids = {c.id for c in found.manifest}
    assert not ids & {"clip0", "clip3", "clip21", "clip22", "clip23"}
    assert found.left_out["under test"] == 5


def test_ids_that_differ_after_a_dot_are_two_clips():
    clips = [Clip(f"v1.{i}", speaker=f"s{i}", fold=str(i)) for i in range(3)]
    assert leaks.find(Manifest(clips)) == []


def test_near_duplicates_are_reported_with_their_ids(tmp_path):
    clips = corpus(tmp_path)
    features = np.random.default_rng(0).normal(size=(24, 64))
    assert leaks.find(Manifest(clips), features=features) == []
    features[20] = 1.001 * features[2] + 1e-4
    found = leaks.check(Manifest(clips), features=features)
    assert [(leak.kind, leak.ids) for leak in found] == [("near-duplicate", ("clip2", "clip20"))]


def test_parts_of_one_recording_are_reported_but_not_refused(tmp_path):
    clips = corpus(tmp_path)
    clips = changed(changed(clips, 0, audio=clips[5].audio, start=0.0, end=2.0), 5, start=2.0)
    found = leaks.check(Manifest(clips))
    assert [leak.kind for leak in found] == ["recording"]
