"""Drawing of a face with moving brows, eyes and mouth, for the built-in corpus.

All shapes are given in coordinates of the face (origin between eyes and nose, unit half the height of
the head, y downwards). One rotation, scale and shift places them, so that the head moves as a whole.
"""

from dataclasses import dataclass

import cv2
import numpy as np

SUPERSAMPLING = 2
FRACTION_BITS = 4

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Look:
    """Appearance of one person, in units of half the height of the head.

    Attributes
    ----------
    width : float
        Half the width of the head.
    eye_distance, eye_size, brow_weight, mouth_width, nose : float
        Distances and sizes of the features.
    skin, hair, iris, lips, shirt, backdrop : tuple of int
        Colours in RGB, 0 to 255.
    fringe : float
        Extent of the hair over the forehead.
    """

    width: float
    eye_distance: float
    eye_size: float
    brow_weight: float
    mouth_width: float
    nose: float
    fringe: float
    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    shirt: Colour
    backdrop: Colour

    @classmethod
    def random(cls, generator: np.random.Generator) -> "Look":
        """Return the appearance of a random person."""
        skins = [(241, 204, 177), (224, 172, 125), (198, 134, 90), (141, 85, 50), (104, 62, 40)]
        hairs = [(40, 28, 22), (92, 60, 34), (168, 120, 60), (120, 50, 28), (150, 150, 150)]
        irises = [(70, 110, 150), (80, 60, 40), (80, 120, 70)]
        skin = skins[generator.integers(len(skins))]
        red, green, blue = skin
        return cls(
            width=generator.uniform(0.68, 0.84),
            eye_distance=generator.uniform(0.29, 0.37),
            eye_size=generator.uniform(0.12, 0.15),
            brow_weight=generator.uniform(0.06, 0.10),
            mouth_width=generator.uniform(0.24, 0.31),
            nose=generator.uniform(0.22, 0.32),
            fringe=generator.uniform(0.15, 0.35),
            skin=skin,
            hair=hairs[generator.integers(len(hairs))],
            iris=irises[generator.integers(len(irises))],
            lips=(min(255, red - 20), int(green * 0.6), int(blue * 0.65)),
            shirt=_colour(generator, 40, 180),
            backdrop=_colour(generator, 110, 220),
        )


@dataclass(frozen=True)
class Expression:
    """Expression and position of the face at one moment.

    Attributes
    ----------
    brow_raise, brow_slant : float
        Height and slant of the brows, about -1 to 1; a frown, with low inner ends, has positive slant.
    eye_open : float
        Opening of the eyes: 1 at rest, 0 closed.
    mouth_curve : float
        Curve of the mouth, from -1 (corners down) to 1 (smile).
    mouth_open : float
        Opening of the mouth, 0 to 1.
    tilt : float
        Rotation of the head in radians.
    x, y : float
        Shift of the head in units of half its height.
    """

    brow_raise: float = 0.0
    brow_slant: float = 0.0
    eye_open: float = 1.0
    mouth_curve: float = 0.0
    mouth_open: float = 0.0
    tilt: float = 0.0
    x: float = 0.0
    y: float = 0.0


def draw(look: Look, expression: Expression, size: int) -> np.ndarray:
    """Draw one frame in RGB: uint8 of shape (size, size, 3)."""
    side = size * SUPERSAMPLING
    canvas = _Canvas(side, look.backdrop, expression)
    _body(canvas, look)
    for sign in (-1, 1):
        _eye(canvas, look, expression, sign)
    _nose(canvas, look)
    _mouth(canvas, look, expression)
    return np.asarray(cv2.resize(canvas.image, (size, size), interpolation=cv2.INTER_AREA))


class _Canvas:
    def __init__(self, side: int, backdrop: Colour, expression: Expression) -> None:
        shade = np.linspace(1.0, 0.75, side)[:, None, None]
        self.image = np.broadcast_to(shade * backdrop, (side, side, 3)).astype(np.uint8, order="C")
        self.scale = 0.36 * side
        self.tilt = expression.tilt
        self.origin = np.array([side / 2, side * 0.47]) + self.scale * np.array([expression.x, expression.y])

    def _placed(self, points: np.ndarray) -> np.ndarray:
        cosine, sine = np.cos(self.tilt), np.sin(self.tilt)
        turned = points @ np.array([[cosine, sine], [-sine, cosine]])
        pixels = self.origin + self.scale * turned
        return np.asarray(np.round(pixels * (1 << FRACTION_BITS)), dtype=np.int32)

    def polygon(self, points: np.ndarray, colour: Colour) -> None:
        cv2.fillPoly(self.image, [self._placed(points)], colour, cv2.LINE_AA, FRACTION_BITS)

    def ellipse(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        ring = np.stack([x + width * np.cos(angles), y + height * np.sin(angles)], axis=1)
        self.polygon(ring, colour)

    def line(self, points: np.ndarray, weight: float, colour: Colour) -> None:
        thickness = max(1, round(weight * self.scale))
        cv2.polylines(self.image, [self._placed(points)], False, colour, thickness, cv2.LINE_AA, FRACTION_BITS)


def _body(canvas: _Canvas, look: Look) -> None:
    shadow = _shaded(look.skin, 0.8)
    canvas.ellipse(0, 1.75, 1.25, 0.75, look.shirt)
    canvas.polygon(np.array([(-0.28, 0.6), (0.28, 0.6), (0.34, 1.25), (-0.34, 1.25)]), shadow)
    canvas.ellipse(0, -0.12, look.width + 0.12, 1.02, look.hair)
    for sign in (-1, 1):
        canvas.ellipse(sign * look.width, 0.05, 0.1, 0.17, shadow)
    canvas.ellipse(0, 0, look.width, 1.0, look.skin)
    angles = np.linspace(np.pi, 2 * np.pi, 30)
    crown = np.stack([look.width * 1.04 * np.cos(angles), 1.04 * np.sin(angles) - 0.02], axis=1)
    x = np.linspace(look.width * 1.04, -look.width * 1.04, 20)
    edge = -0.75 + look.fringe * (0.3 + np.abs(x / look.width) ** 1.5)
    fringe = np.concatenate([crown, np.stack([x, edge], axis=1)])
    canvas.polygon(fringe, look.hair)


def _eye(canvas: _Canvas, look: Look, expression: Expression, sign: int) -> None:
    x, y, size = sign * look.eye_distance, -0.1, look.eye_size
    height = size * 0.75 * max(expression.eye_open, 0.08)
    canvas.ellipse(x, y, size * 1.2, height, (250, 250, 248))
    iris = min(size * 0.55, height)
    canvas.ellipse(x, y, size * 0.55, iris, look.iris)
    canvas.ellipse(x, y, size * 0.28, min(size * 0.28, height), (15, 15, 15))
    across = np.linspace(-1.2, 1.2, 12)
    lid = np.stack([x + size * across, y - height * np.sqrt(1 - (across / 1.25) ** 2)], axis=1)
    canvas.line(lid, 0.035, _shaded(look.skin, 0.35))
    inward = np.linspace(0, 1, 10)
    brow_x = x + sign * size * 1.5 * (1 - 2 * inward)
    lift = -0.19 - 0.11 * expression.brow_raise - 0.05 * np.sin(np.pi * inward)
    brow_y = y + lift + 0.11 * expression.brow_slant * (2 * inward - 1)
    canvas.line(np.stack([brow_x, brow_y], axis=1), look.brow_weight, _shaded(look.hair, 0.8))


def _nose(canvas: _Canvas, look: Look) -> None:
    bridge = np.array([(0.03, 0.0), (0.07, look.nose), (-0.02, look.nose + 0.04)])
    canvas.line(bridge, 0.035, _shaded(look.skin, 0.72))


def _mouth(canvas: _Canvas, look: Look, expression: Expression) -> None:
    """Draw two lips between two corners, with teeth and the dark of the mouth between them."""
    across = np.linspace(-1, 1, 21)
    arch = 1 - across**2
    half = look.mouth_width * (1 + 0.25 * max(expression.mouth_curve, 0)) * (1 - 0.4 * expression.mouth_open)
    corner = 0.53 - 0.11 * expression.mouth_curve
    middle = corner + 0.2 * expression.mouth_curve * arch
    gap = 0.34 * expression.mouth_open * arch
    x = half * across
    upper = np.stack([x, middle - 0.35 * gap], axis=1)
    lower = np.stack([x, middle + 0.65 * gap], axis=1)
    outer = np.concatenate([upper - [0, 0.05] * arch[:, None], (lower + [0, 0.07] * arch[:, None])[::-1]])
    canvas.polygon(outer, look.lips)
    canvas.polygon(np.concatenate([upper, lower[::-1]]), (60, 15, 20))
    teeth = np.stack([x, middle - 0.35 * gap + 0.4 * gap], axis=1)
    canvas.polygon(np.concatenate([upper, teeth[::-1]]), (240, 238, 230))
    canvas.line(upper, 0.025, _shaded(look.lips, 0.55))


def _colour(generator: np.random.Generator, low: int, high: int) -> Colour:
    red, green, blue = (int(c) for c in generator.integers(low, high, 3))
    return red, green, blue


def _shaded(colour: Colour, factor: float) -> Colour:
    red, green, blue = (int(c * factor) for c in colour)
    return red, green, blue
