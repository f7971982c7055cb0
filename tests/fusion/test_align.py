"""Alignment of streams of different rates by their times."""

import torch

from affuse.fusion._align import align
from affuse.tensors import Stream


def stream(values, times, length=None):
    n = len(values)
    length = length or n
    filled = torch.zeros(1, length, 1)
    filled[0, :n, 0] = torch.tensor(values)
    clock = torch.full((1, length), torch.nan)
    clock[0, :n] = torch.tensor(times)
    return Stream(filled, torch.arange(length)[None] < n, clock)


def test_a_faster_stream_is_averaged_over_each_step_and_a_slower_one_repeated():
    fast = stream([1.0, 2, 3, 4, 5, 6, 7, 8], [0.125 + 0.25 * i for i in range(8)])
    slow = stream([10.0, 20, 30, 40], [0.25, 0.75, 1.25, 1.75])
    at_slow = align({"audio": fast, "visual": slow}, "shortest")
    torch.testing.assert_close(at_slow["audio"].values[0, :, 0], torch.tensor([1.5, 3.5, 5.5, 7.5]))
    torch.testing.assert_close(at_slow["visual"].values, slow.values)
    at_fast = align({"audio": fast, "visual": slow}, "longest")
    torch.testing.assert_close(at_fast["audio"].values, fast.values)
    expected = torch.tensor([10.0, 10, 20, 20, 30, 30, 40, 40])
    torch.testing.assert_close(at_fast["visual"].values[0, :, 0], expected)


def test_a_frame_across_the_boundary_of_two_steps_counts_for_both():
    # Three frames of 1/3 s into two steps of 1/2 s: the middle frame is split between them.
    found = align({"audio": stream([0.0, 3, 6], [1 / 6, 3 / 6, 5 / 6])}, 2)["audio"]
    torch.testing.assert_close(found.values[0, :, 0], torch.tensor([1.0, 5.0]))
    torch.testing.assert_close(found.times[0], torch.tensor([0.25, 0.75]))


def test_frames_are_aligned_by_time_not_by_position():
    sound = stream([1.0, 2, 3, 4], [0.5, 1.5, 2.5, 3.5])
    late = stream([7.0, 8], [2.5, 3.5])
    found = align({"audio": sound, "visual": late}, "longest")
    assert found["visual"].mask.tolist() == [[False, False, True, True]]
    torch.testing.assert_close(found["visual"].values[0, :, 0], torch.tensor([0.0, 0, 7, 8]))


def test_a_single_frame_covers_the_clip_and_does_not_set_the_number_of_steps():
    once = stream([5.0], [1.0])
    sound = stream([1.0, 2, 3], [0.5, 1.5, 2.5])
    found = align({"audio": sound, "visual": once}, "shortest")
    assert found["visual"].values[0, :, 0].tolist() == [5, 5, 5]
    assert align({"visual": once}, "shortest")["visual"].values.tolist() == [[[5.0]]]


def test_padding_does_not_change_the_result():
    short, longer = stream([1.0, 2, 3], [0.1, 0.3, 0.5]), stream([1.0, 2, 3], [0.1, 0.3, 0.5], 6)
    for steps in ("shortest", "longest", 2, 7):
        a, b = (align({"audio": s}, steps)["audio"] for s in (short, longer))
        torch.testing.assert_close(a.values, b.values)
        assert a.mask.equal(b.mask)
