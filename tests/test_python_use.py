"""The Python API accepts what its users hand it, and refuses wrong values with an error of affuse."""

import numpy as np
import pytest

import affuse
from affuse.errors import AffuseError, InvalidValue


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with a manifest, a feature store and a trained run."""
    folder = tmp_path_factory.mktemp("desk")
    affuse.make_demo_corpus(folder, n_speakers=5, n_repetitions=1)
    affuse.extract(folder / "manifest.csv", ["logmel,pool=mean"], folder / "features")
    affuse.train("logistic", folder / "manifest.csv", folder / "features", out=folder / "run", device="cpu", workers=1)
    return folder


def test_paths_stand_for_manifests_stores_runs_and_posteriors(desk, tmp_path):
    clips, run = desk / "manifest.csv", affuse.Run.open(desk / "run")
    probs = run.predict(clips, desk / "features", device="cpu")
    probs.write(tmp_path / "probs.csv")
    both = affuse.combine([run, tmp_path / "probs.csv", probs], manifest=clips, rule="mean", n_resamples=20)
    assert list(both.provenance.members) == ["run", "probs", "posterior"]
    scores = [
        affuse.evaluate(each, clips, n_resamples=20).metrics["accuracy"].value
        for each in (run, desk / "run", probs, both, tmp_path / "probs.csv")
    ]
    assert len(set(scores)) == 1
    assert affuse.write_report(run, clips, tmp_path / "report.html", n_resamples=20).stat().st_size > 10_000


def test_a_combination_is_written_with_its_provenance(desk, tmp_path):
    both = affuse.combine([desk / "run", desk / "run"], manifest=desk / "manifest.csv", weights=[0.7, 0.3], rule="mean")
    both.write(tmp_path / "both.csv")
    assert affuse.System.open(tmp_path / "both.csv").provenance == both.provenance
    assert list(both.to_pandas().index) == list(both.posterior.ids)


@pytest.mark.parametrize(
    "settings", [{"precision": "float64"}, {"part": (3, 2)}, {"part": (0, 2)}, {"workers": 0}, {"threads": 0}]
)
def test_wrong_settings_of_an_extraction_are_refused(settings):
    with pytest.raises(AffuseError):
        affuse.ExtractionSettings(**settings)


def test_an_unknown_precision_of_an_encoder_is_refused():
    with pytest.raises(AffuseError, match="precision"):
        affuse.load_encoder("logmel", precision="half")


def test_an_extraction_without_encoders_is_refused(desk):
    with pytest.raises(InvalidValue, match="no encoder"):
        affuse.extract(desk / "manifest.csv", [], desk / "features")


def test_a_description_without_features_is_not_recalled(desk, tmp_path):
    store = affuse.FeatureStore(tmp_path)
    affuse.extract(desk / "manifest.csv", "logmel", store)
    (key,) = store.keys()
    for shard in store.shard_paths(key):
        shard.unlink()
    card = tmp_path / key / "encoder.json"
    card.write_text(card.read_text().replace("float32", "float64"))
    assert affuse.extract(desk / "manifest.csv", "logmel", store).keys["logmel"] == key


@pytest.mark.parametrize("times", [{"every": 0}, {"every": -1}, {"every": 1, "window": 0}, {"every": 1, "smooth": -1}])
def test_wrong_times_of_a_timeline_are_refused(desk, times):
    with pytest.raises(InvalidValue, match="seconds"):
        affuse.predict_timelines(desk / "run", desk / "media", **times)


@pytest.mark.parametrize("peak", [np.nan, 20_000.0])
def test_sound_that_is_not_on_the_scale_of_floats_is_refused(peak):
    sound = np.zeros(16_000, np.float32)
    sound[100] = peak
    with pytest.raises(AffuseError, match=r"expected -1\.\.1"):
        affuse.load_encoder("logmel").encode(sound, rate=16_000)


def test_a_table_without_ids_or_with_text_is_no_posterior():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"happy": [0.4, 0.6], "sad": [0.6, 0.4]})
    with pytest.raises(AffuseError, match="no ids"):
        affuse.Posterior.from_pandas(table)
    with pytest.raises(AffuseError, match="column of text"):
        affuse.Posterior.from_pandas(table.assign(id=["a", "b"], speaker=["s0", "s1"]))


def test_a_video_is_no_posterior(desk):
    video = next((desk / "media").iterdir())
    with pytest.raises(AffuseError, match="not a table of text"):
        affuse.Posterior.read(video)
