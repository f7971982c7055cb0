"""Contract tests: they hold every fusion and every head in the package to its base class."""

from itertools import chain, combinations

import pytest
import torch

from affuse import plugins
from affuse.errors import AffuseError, RecipeError
from affuse.heads._head import Head
from affuse.plugins import modality_of
from affuse.tensors import IGNORE, Fused, Stream, Targets, Width

DIMS = {"audio": 12, "audio:mel": 7, "visual": 10}
LENGTHS = {"audio": [9, 4, 1, 6], "audio:mel": [17, 8, 2, 3], "visual": [5, 5, 1, 2]}
SECONDS = [2.0, 1.0, 0.5, 1.5]

OPTIONS = {
    "afg": [{"structure": s} for s in "abc"]
    + [{"structure": "b", "steps": "longest"}, {"structure": "c", "softmax": True}],
    "jca": [{"variant": v, "output": o} for v in ("paper", "dense", "vanilla") for o in ("clip", "steps")]
    + [
        {"variant": "dense", "recursion": 2, "gate": True, "lstm": "both"},
        {"recursion": 3, "share": True, "gate": True},
    ],
    "avtca": [{"mode": "paper", "heads": 1}, {"mode": "released"}],
    "averformer": [{"guide": g} for g in ("gate", "token", "none")],
    "tfn": [{"factor": 8}],
    "mult": [{}, {"kernel": 3}],
}
FUSIONS = [(n, settings) for n in plugins.names("fusion") for settings in OPTIONS.get(n, [{}])]
HEADS = [name for name in plugins.names("head") if issubclass(plugins.find("head", name), Head)]

each_fusion = pytest.mark.parametrize(
    ("name", "settings"), FUSIONS, ids=[f"{n}-{'-'.join(map(str, s.values()))}" for n, s in FUSIONS]
)


def streams(*, padding=0, junk=0.0, seed=0):
    """Return streams of four clips of different lengths; masked steps hold the value `junk`."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, dim in DIMS.items():
        longest = max(LENGTHS[name]) + padding
        values = torch.full((4, longest, dim), junk)
        times = torch.full((4, longest), torch.nan)
        mask = torch.zeros(4, longest, dtype=torch.bool)
        for row, (n, seconds) in enumerate(zip(LENGTHS[name], SECONDS, strict=True)):
            values[row, :n] = torch.randn(n, dim, generator=generator)
            times[row, :n] = (torch.arange(n) + 0.5) * seconds / n
            mask[row, :n] = True
        found[name] = Stream(values, mask, times)
    return found


def without(stream, row):
    mask = stream.mask.clone()
    mask[row] = False
    return stream._replace(mask=mask, times=stream.times.masked_fill(~mask, torch.nan))


def fusion(name, settings, *, training=False):
    torch.manual_seed(0)
    return plugins.build("fusion", name, DIMS, settings=settings).train(training)


@pytest.mark.parametrize("name", plugins.names("fusion"))
def test_a_fusion_declares_the_modalities_that_it_reads(name):
    kind = plugins.find("fusion", name)
    assert "modalities" in vars(kind), f"{kind.__name__} declares no modalities"
    (listed,) = [row for row in plugins.list_fusions() if row["name"] == name]
    assert listed["modalities"] == ("any" if kind.modalities is None else ", ".join(kind.modalities))
    with_text = {"audio": 12, "visual": 10, "text": 5}
    if kind.modalities is None:
        kind(with_text).check_streams()
        return
    kind({"audio": 12, "visual": 10}).check_streams()
    with pytest.raises(RecipeError, match=r"would ignore text\. The given streams are audio, visual, text"):
        kind(with_text).check_streams()
    for missing in kind.modalities:
        dims = {stream: dim for stream, dim in with_text.items() if modality_of(stream) != missing}
        with pytest.raises(RecipeError, match=f"--stream {missing}=KEY"):
            kind(dims)


@each_fusion
def test_a_fusion_reads_every_stream(name, settings):
    built, whole = fusion(name, settings), streams()
    before = built(whole).vector
    for stream in DIMS:
        changed = whole[stream]._replace(values=whole[stream].values + 1)
        assert (built(whole | {stream: changed}).vector - before).abs().max() > 1e-6, stream


@each_fusion
def test_the_output_has_the_declared_width(name, settings):
    built = fusion(name, settings)
    fused = built(streams())
    assert fused.vector.shape[0] == 4 and fused.vector.shape[-1] == built.width.vector
    assert (fused.mask is None) == (fused.vector.ndim == 2)
    assert {k: v.shape for k, v in fused.streams.items()} == {k: (4, n) for k, n in built.width.streams.items()}


@each_fusion
def test_padding_does_not_change_the_output(name, settings):
    built = fusion(name, settings)
    short = built(streams())
    long = built(streams(padding=5, junk=torch.nan))
    steps = slice(None) if short.mask is None else slice(short.vector.shape[1])
    torch.testing.assert_close(long.vector[:, steps], short.vector, atol=1e-5, rtol=1e-4)
    for stream, vector in short.streams.items():
        torch.testing.assert_close(long.streams[stream], vector, atol=1e-5, rtol=1e-4)


@each_fusion
def test_any_subset_of_the_streams_is_accepted(name, settings):
    built, all_streams = fusion(name, settings), streams()
    for subset in chain.from_iterable(combinations(DIMS, n) for n in (1, 2)):
        absent = built({k: all_streams[k] for k in subset})
        empty = built(
            {k: s if k in subset else s._replace(mask=torch.zeros_like(s.mask)) for k, s in all_streams.items()}
        )
        assert absent.vector.isfinite().all()
        torch.testing.assert_close(absent.vector, empty.vector, atol=1e-5, rtol=1e-4)
    with pytest.raises(AffuseError, match="needs at least one"):
        built({})


@each_fusion
def test_a_clip_without_streams_does_not_change_other_clips(name, settings):
    built, whole = fusion(name, settings), streams()
    partial = {k: without(s, 1) if k == "audio" else without(s, 2) for k, s in whole.items()}
    partial["audio"] = without(partial["audio"], 2)
    before, after = built(whole), built(partial)
    assert after.vector.isfinite().all()
    assert all(v.isfinite().all() for v in after.streams.values())
    torch.testing.assert_close(after.vector[[0, 3]], before.vector[[0, 3]], atol=1e-5, rtol=1e-4)


@each_fusion
def test_every_parameter_receives_a_gradient(name, settings):
    built = fusion(name, settings, training=True)
    fused = built(streams())
    (fused.vector * torch.randn_like(fused.vector)).sum().backward()
    idle = [n for n, p in built.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not idle


@pytest.mark.parametrize("steps", [False, True], ids=["clip", "steps"])
@pytest.mark.parametrize(
    ("emotions", "dimensions"),
    [(("a", "b", "c"), ("valence", "arousal")), (("a", "b", "c"), ()), ((), ("valence",))],
    ids=["both", "emotions", "dimensions"],
)
@pytest.mark.parametrize("name", HEADS)
def test_a_head_decodes_the_requested_targets(name, emotions, dimensions, steps):
    torch.manual_seed(0)
    width = Width(8, {"audio": 4, "visual": 5})
    if name == "hybrid" and not emotions:
        with pytest.raises(AffuseError, match="needs emotions"):
            plugins.build("head", name, width, emotions, dimensions, settings={})
        return
    head = plugins.build("head", name, width, emotions, dimensions, settings={})
    emotion = torch.tensor([0, 1, 2, 1, IGNORE, 0])
    values = torch.randn(6, len(dimensions))
    values[2] = torch.nan
    targets = Targets(emotion, values)
    head.initialise(targets)
    mask = torch.arange(3)[None] < torch.tensor([3, 2, 1, 3, 3, 2])[:, None]
    fused = Fused(
        torch.randn(6, 3, 8) if steps else torch.randn(6, 8),
        mask if steps else None,
        {},
        {"audio": torch.randn(6, 4), "visual": torch.randn(6, 5)},
    )
    decoded = head(fused)
    assert decoded.logits.shape == (6, len(emotions))
    assert decoded.dimensions.shape == (*fused.vector.shape[:-1], len(dimensions))
    losses = head.loss(decoded, targets)
    losses["total"].backward()
    assert losses["total"].isfinite()
    assert all(p.grad is not None for p in head.parameters())
    unannotated = Targets(torch.full((6,), IGNORE), torch.full_like(values, torch.nan))
    nothing = head.loss(head(fused), unannotated)["total"]
    nothing.backward()
    assert nothing.isfinite()
    if name != "hybrid":
        assert nothing == 0


@pytest.mark.parametrize("name", HEADS)
def test_a_misspelt_loss_option_is_rejected_with_a_suggestion(name):
    with pytest.raises(AffuseError, match="did you mean 'weighting'"):
        settings = {"loss": {"wieghting": "fixed"}}
        plugins.build("head", name, Width(8, {"audio": 8}), ["a", "b"], [], settings=settings)
