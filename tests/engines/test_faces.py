"""Face options travel as one record from the settings to the decoder, the identity and encoder.json."""

import json
from pathlib import Path

import pytest

from affuse.cache.store import FeatureStore
from affuse.engines._extraction import Extraction, ExtractionSettings
from affuse.manifest import Clip, Manifest
from affuse.media.decoder import Decoder
from affuse.media.faces import FaceOptions
from affuse.media.inputs import Frames

from ..media_files import write_clip


@pytest.mark.parametrize("pick", ["largest", "central"])
@pytest.mark.parametrize("no_face", ["whole", "fail"])
def test_options_reach_the_decoder_the_identity_and_the_description(
    data: Path, tmp_path: Path, pick: str, no_face: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = data / "weights" / "yunet.onnx"
    options = FaceOptions(weights, pick, no_face)
    decoders: list[FaceOptions | None] = []
    start = Decoder.__init__

    def watch(self: Decoder, *arguments: object, faces: FaceOptions | None = None, **limits: object) -> None:
        decoders.append(faces)
        start(self, *arguments, faces=faces, **limits)

    monkeypatch.setattr(Decoder, "__init__", watch)
    clips = Manifest([Clip("a", video=write_clip(tmp_path / "a.mp4", seconds=0.6, size=(64, 48), audio=False))])
    store = FeatureStore(tmp_path / "store")
    settings = ExtractionSettings(workers=1, faces=options)
    extraction = Extraction(clips, ["hog,crop=face", "hog,fps=2"], store, settings=settings)
    report = extraction.run()
    stored = {"detector": str(weights.resolve()), "pick": pick, "no_face": no_face}
    key, plain = report.keys.values()
    assert json.loads((store.path / key / "encoder.json").read_text())["asked"]["faces"] == stored
    assert json.loads((store.path / plain / "encoder.json").read_text())["asked"]["faces"] is None
    identity = store.specification(key)["identity"]["faces"]
    assert set(identity) == set(stored) and {**identity, "detector": stored["detector"]} == stored
    assert decoders == [options.located()] and FaceOptions.from_dict(stored) == options.located()
    assert [f.code for f in report.failures] == (["no_face"] if no_face == "fail" else [])
    again = Extraction(clips, ["hog,crop=face"], store, settings=settings)
    assert not again.chunks
    other = ExtractionSettings(faces=FaceOptions(weights, "central" if pick == "largest" else "largest", no_face))
    assert Extraction(clips, ["hog,crop=face"], store, settings=other).chunks


def test_a_decoder_needs_no_weights_without_face_crops() -> None:
    with Decoder([Frames(fps=2)]) as decoder:
        assert decoder.inputs == [Frames(fps=2)]
