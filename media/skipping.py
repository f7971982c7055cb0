"""Which pictures need not be decoded: those that nobody wants and no other picture is made from.

In H.264 and HEVC that is half the work of decoding or more. Which picture is on screen at a wanted
moment is known from the packets, some of which have to be looked at ahead: they come in the order
of decoding, not of showing.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

CODECS = {"h264", "hevc"}
AHEAD = 17
"""Packets between a picture's place in the order of decoding and of showing, at most, and one."""


def marked(packets: Iterator[Any], pictures: Any, is_wanted: Callable[[Any, Any], bool]) -> Iterator[tuple[Any, bool]]:
    """Walk packets, and tell for each whether its picture is spare.

    Parameters
    ----------
    packets : iterator of Packet
        Of all streams, in the order of decoding.
    pictures : VideoStream or None
        The stream whose pictures may be spare.
    is_wanted : callable
        Whether a picture that is on screen from one timestamp to another is wanted.

    Yields
    ------
    packet : Packet
    spare : bool
    """
    if pictures is None or pictures.codec_context.name not in CODECS:
        yield from ((packet, False) for packet in packets)
        return
    shown: deque[int] = deque(maxlen=2 * AHEAD + 1)
    waiting: deque[tuple[Any, bool]] = deque()
    n_waiting = 0

    def next_one() -> tuple[Any, bool]:
        packet, is_picture = waiting.popleft()
        if not is_picture or packet.pts == min(shown):
            return packet, False
        later = [pts for pts in shown if pts > packet.pts]
        return packet, bool(later) and not is_wanted(packet.pts, min(later))

    for packet in packets:
        is_picture = (
            packet.stream_index == pictures.index
            and packet.pts is not None
            and packet.size > 0
            and not packet.is_discard
        )
        waiting.append((packet, is_picture))
        if is_picture:
            shown.append(packet.pts)
            n_waiting += 1
        while n_waiting > AHEAD:
            n_waiting -= waiting[0][1]
            yield next_one()
    while waiting:
        yield next_one()
