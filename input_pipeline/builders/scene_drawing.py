"""Painters of the synthetic street scenes: each draws one thing into image and label.

Lengths are in units of 1/96 of the image's height, x to the right, y downwards. Colours are RGB.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from danet_jax.input_pipeline.builders.scene_canvas import (
    SUPERSAMPLING,
    UNITS,
    Box,
    Canvas,
    Color,
    Points,
)

SKY, GROUND, BUILDING, TREE, PERSON = range(5)
SIGNAL_RED, SIGNAL_GREEN, VEHICLE_STOPPED, VEHICLE_MOVING = range(5, 9)

# fmt: off
WALLS = (
    (196, 150, 120), (212, 194, 160), (168, 104, 88), (176, 182, 190), (222, 206, 190),
    (140, 148, 160), (198, 172, 104),
)
ROOFS = ((124, 74, 62), (88, 88, 98), (104, 92, 84))
FOLIAGE = ((70, 124, 58), (96, 144, 66), (52, 106, 72), (138, 140, 60), (178, 128, 56))
PAINTS = (
    (206, 52, 48), (52, 98, 176), (236, 236, 232), (52, 56, 64), (240, 186, 52), (168, 176, 184),
    (62, 140, 120), (226, 128, 54), (122, 70, 140),
)
CLOTHES = (*PAINTS, (230, 150, 170), (120, 170, 210), (92, 72, 60))
TROUSERS = ((44, 52, 84), (62, 58, 56), (128, 112, 88), (86, 92, 104))
SKIN = ((244, 208, 178), (214, 164, 124), (150, 102, 72), (98, 66, 50))
HAIR = ((44, 34, 30), (96, 62, 38), (206, 168, 96), (150, 146, 142))
GLASS = (66, 88, 108)
# fmt: on

# VEHICLES gives the outline and the windows of a vehicle that drives to the right, in shares of its
# length and height.
VEHICLES = {
    "car": (
        ((0, 0.18), (0.01, 0.55), (0.17, 0.63), (0.29, 1), (0.64, 1), (0.8, 0.6), (0.98, 0.5),
         (1, 0.18)),
        (((0.23, 0.62), (0.32, 0.92), (0.46, 0.92), (0.46, 0.62)),
         ((0.50, 0.62), (0.50, 0.92), (0.62, 0.92), (0.75, 0.62))),
    ),
    "hatchback": (
        ((0, 0.18), (0, 0.6), (0.07, 1), (0.6, 1), (0.77, 0.62), (0.98, 0.52), (1, 0.18)),
        (((0.07, 0.62), (0.13, 0.92), (0.34, 0.92), (0.34, 0.62)),
         ((0.38, 0.62), (0.38, 0.92), (0.58, 0.92), (0.71, 0.62))),
    ),
    "van": (
        ((0, 0.14), (0, 1), (0.74, 1), (0.9, 0.58), (1, 0.5), (1, 0.14)),
        (((0.56, 0.58), (0.56, 0.88), (0.73, 0.88), (0.84, 0.58)),),
    ),
    "bus": (
        ((0, 0.12), (0, 1), (0.97, 1), (1, 0.6), (1, 0.12)),
        (*(((u, 0.5), (u, 0.86), (u + 0.15, 0.86), (u + 0.15, 0.5))
           for u in (0.04, 0.22, 0.4, 0.58)),
         ((0.77, 0.3), (0.77, 0.86), (0.96, 0.86), (0.98, 0.5), (0.98, 0.3))),
    ),
}  # fmt: skip
VEHICLE_SIZES = {"car": (38, 16), "hatchback": (33, 17), "van": (42, 22), "bus": (54, 26)}


def _tint(color: Color, gain: float) -> Color:
    red, green, blue = color
    return red * gain, green * gain, blue * gain


def _pick(rng: np.random.Generator, colors: Sequence[Color], spread: float = 14.0) -> Color:
    color = colors[int(rng.integers(len(colors)))]
    return tuple((color + rng.uniform(-spread, spread, 3)).tolist())


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]):
    """Cloud-like values of about unit variance, [h, w]."""
    noise = np.zeros(shape, np.float32)
    for octave in (1, 2, 4):
        grid = rng.normal(size=(cells[0] * octave, cells[1] * octave)).astype(np.float32)
        noise += cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC) / octave
    return noise


def sky(rng: np.random.Generator, canvas: Canvas, above: Color, below: Color) -> None:
    """Gradient from the zenith to the horizon, and clouds."""
    rows, columns = canvas.label.shape
    height, width = rows // SUPERSAMPLING, columns // SUPERSAMPLING
    ramp = np.linspace(0, 2, height, dtype=np.float32)[:, None, None].clip(0, 1)
    ramp = ramp ** np.float32(rng.uniform(0.8, 1.6))
    colors = np.asarray(above, np.float32) * (1 - ramp) + np.asarray(below, np.float32) * ramp
    colors = colors + rng.uniform(-10, 10, 3).astype(np.float32)
    cover = _smooth_noise(rng, (height, width), (5, 4)) + np.float32(rng.uniform(-0.9, 0.3))
    cover = (cover.clip(0, 1) * 0.7)[..., None]
    colors = colors * (1 - cover) + (0.35 * colors + 0.65 * 246) * cover
    canvas.image[:] = cv2.resize(colors.clip(0, 255).astype(np.uint8), (columns, rows))
    canvas.label[:] = SKY


def ground(
    rng: np.random.Generator, canvas: Canvas, horizon: float, road: tuple[float, float]
) -> None:
    """Pavement, road across the picture, pavement in front; slabs in perspective, a crossing."""
    rows = canvas.image.shape[0]
    first = round(horizon * canvas.unit)
    y = (np.arange(first, rows) + 0.5) / canvas.unit
    asphalt = rng.uniform(78, 112) + rng.uniform(-5, 5, 3)
    slabs = rng.uniform(150, 186) + np.array([6, 2, -6]) * rng.uniform(0, 2)
    on_road = ((y > road[0]) & (y < road[1]))[:, None]
    colors = np.where(on_road, asphalt, slabs).astype(np.float32)
    shape = (rows - first) // SUPERSAMPLING, canvas.image.shape[1] // SUPERSAMPLING
    grain = rng.standard_normal(shape, dtype=np.float32) * 5 + _smooth_noise(rng, shape, (3, 5)) * 4
    rows_of_colors = cv2.resize(colors[:, None], shape[::-1], interpolation=cv2.INTER_AREA)
    textured = (rows_of_colors + grain[..., None]).clip(0, 255).astype(np.uint8)
    canvas.image[first:] = cv2.resize(textured, canvas.label[first:].shape[::-1])
    canvas.label[first:] = GROUND
    _slab_lines(rng, canvas, horizon, road, tuple((slabs * 0.82).tolist()))
    _lane_marks(rng, canvas, road)


def _slab_lines(
    rng: np.random.Generator,
    canvas: Canvas,
    horizon: float,
    road: tuple[float, float],
    color: Color,
) -> None:
    width = canvas.image.shape[1] / canvas.unit
    vanishing = width * rng.uniform(0.3, 0.7)
    for top, bottom in ((horizon, road[0]), (road[1], UNITS)):
        near, far = ((y - horizon + 14) / (UNITS - horizon + 14) for y in (top, bottom))
        for x in (np.arange(-3.0, 4.0, 0.17) * width).tolist():
            a, b = vanishing + x * near, vanishing + x * far
            if max(a, b) < 0 or min(a, b) > width:
                continue
            canvas.polygon(((a, top), (a + 0.4, top), (b + 0.5, bottom), (b, bottom)), color)
    canvas.rectangle((0, road[1], width, road[1] + 1.3), _tint(color, 1.35))
    canvas.rectangle((0, road[1] + 1.3, width, road[1] + 1.8), _tint(color, 0.8))
    canvas.rectangle((0, road[0] - 0.8, width, road[0]), _tint(color, 0.75))


def _lane_marks(rng: np.random.Generator, canvas: Canvas, road: tuple[float, float]) -> None:
    width = canvas.image.shape[1] / canvas.unit
    paint = [rng.uniform(196, 232)] * 3
    middle = road[0] + 0.45 * (road[1] - road[0])
    start, end = width * rng.uniform(0.22, 0.28), width * rng.uniform(0.4, 0.46)
    for x in np.arange(end + rng.uniform(3, 12), width, 15):
        canvas.polygon(
            ((x, middle), (x + 8, middle), (x + 8.6, middle + 1.2), (x, middle + 1.2)), paint
        )
    for x in np.linspace(start, end, 4):
        top, bottom = road[0] + 2, road[1] - 2
        slant = (x - width / 2) * 0.18
        canvas.polygon(
            ((x, top), (x + 2.6, top), (x + 3.6 + slant, bottom), (x + slant, bottom)), paint
        )


def buildings(rng: np.random.Generator, canvas: Canvas, base: float, lit: float) -> None:
    """A row of houses along the horizon, with gaps through which the sky shows."""
    x, width = rng.uniform(-16, 0), canvas.image.shape[1] / canvas.unit
    while x < width:
        across = rng.uniform(20, 38)
        building(rng, canvas, (x, base - rng.uniform(17, 38), x + across, base), lit)
        x += across + (rng.uniform(7, 18) if rng.random() < 0.45 else 0)


def building(rng: np.random.Generator, canvas: Canvas, box: Box, lit: float) -> None:
    x0, y0, x1, y1 = box
    wall, roof = _pick(rng, WALLS), _pick(rng, ROOFS, 8.0)
    if rng.random() < 0.45:
        peak = y0 - rng.uniform(4, 9)
        inset = (x1 - x0) * rng.choice([0.2, 0.5])
        canvas.polygon(((x0, y0), (x0 + inset, peak), (x1 - inset, peak), (x1, y0)), roof, BUILDING)
    canvas.rectangle(box, wall, BUILDING)
    canvas.rectangle((x0, y0, x1, y0 + 1.4), roof if rng.random() < 0.5 else _tint(wall, 0.8))
    canvas.rectangle((x1 - 1.2, y0, x1, y1), _tint(wall, 0.82))
    pane, pitch_x, pitch_y = rng.uniform(2.6, 3.8), rng.uniform(5.4, 7.5), rng.uniform(6.5, 8.5)
    glass = _pick(rng, (GLASS, (96, 122, 146), (74, 74, 82)))
    for y in np.arange(y0 + 3.6, y1 - 10, pitch_y).tolist():
        for x in np.arange(x0 + 2.8, x1 - pane - 1.5, pitch_x).tolist():
            color = (250, 214, 130) if rng.random() < lit else _tint(glass, rng.uniform(0.85, 1.15))
            canvas.rectangle((x - 0.5, y - 0.5, x + pane + 0.5, y + 5), _tint(wall, 1.14))
            canvas.rectangle((x, y, x + pane, y + 4.4), color)
    door = rng.uniform(x0 + 3, x1 - 9)
    canvas.rectangle((door, y1 - 7.5, door + 4.5, y1), _tint(roof, 0.8))


def tree(rng: np.random.Generator, canvas: Canvas, x: float, base: float) -> None:
    """Trunk, and a crown of leaf blobs that lighten towards the top left."""
    radius, stem = rng.uniform(11, 16), rng.uniform(2.3, 3.2)
    middle = base - rng.uniform(12, 18) - radius * 0.8
    bark, leaf = _pick(rng, ((96, 70, 52), (116, 96, 78))), _pick(rng, FOLIAGE, 10.0)
    canvas.polygon(
        ((x - stem, base), (x - stem * 0.7, middle), (x + stem * 0.7, middle), (x + stem, base)),
        bark,
        TREE,
    )
    canvas.rectangle((x + stem * 0.2, middle, x + stem * 0.7, base), _tint(bark, 0.8))
    canvas.ellipse((x, middle), (radius * 0.95, radius), _tint(leaf, 0.75), TREE)
    count = 44
    angle, distance = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.random(count)) * 0.92 * radius
    dx, dy = np.cos(angle) * distance, np.sin(angle) * distance
    size, shade = rng.uniform(1.8, 3.8, count), rng.uniform(0.84, 1.12, count)
    shade -= (dy + 0.5 * dx) / radius * 0.22
    leaves = np.stack([x + dx, middle + dy, size, shade], axis=1)[np.argsort(shade)]
    for u, v, r, gain in leaves.tolist():
        canvas.ellipse((u, v), (r, r), _tint(leaf, gain), TREE)


def person(rng: np.random.Generator, canvas: Canvas, x: float, base: float, tall: float) -> None:
    """Legs in stride, coat with arms, head with hair; about 0.4 as wide as tall."""
    coat, trousers = _pick(rng, CLOTHES), _pick(rng, TROUSERS)
    skin, hair = _pick(rng, SKIN, 8.0), _pick(rng, HAIR, 8.0)
    stride, facing = rng.uniform(0.08, 0.16) * tall, rng.choice([-1, 1])
    hip, shoulder = base - 0.46 * tall, base - 0.79 * tall
    for side, gain in ((-1, 0.8), (1, 1.0)):
        foot, thick = x + side * stride, 0.065 * tall
        canvas.polygon(
            (
                (x - 0.13 * tall, hip),
                (x + 0.13 * tall, hip),
                (foot + thick, base),
                (foot - thick, base),
            ),
            _tint(trousers, gain),
            PERSON,
        )
        shoes = (foot - thick, base - 0.045 * tall, foot + thick + facing * 0.02 * tall, base)
        canvas.rectangle(shoes, (40, 34, 34), PERSON)
    hem = base - rng.uniform(0.3, 0.42) * tall
    for side, gain in ((-1, 0.78), (1, 0.88)):
        arm, hand = x + side * 0.14 * tall, x + side * 0.205 * tall
        canvas.polygon(
            ((arm - 1.2, shoulder), (arm + 1.2, shoulder), (hand + 1.3, hip), (hand - 1.3, hip)),
            _tint(coat, gain),
            PERSON,
        )
        canvas.ellipse((hand, hip + 0.6), (1.3, 1.3), skin, PERSON)
    a, b = 0.16 * tall, 0.15 * tall
    canvas.polygon(
        ((x - a, shoulder), (x - a * 0.6, shoulder - 1.2), (x + a * 0.6, shoulder - 1.2),
         (x + a, shoulder), (x + b, hem), (x - b, hem)), coat, PERSON
    )  # fmt: skip
    canvas.rectangle((x - 0.3, shoulder, x + 0.3, hem), _tint(coat, 0.8))
    head = base - 0.9 * tall
    canvas.ellipse((x, head), (0.095 * tall, 0.11 * tall), hair, PERSON)
    canvas.ellipse(
        (x + facing * 0.02 * tall, head + 0.03 * tall), (0.075 * tall, 0.078 * tall), skin, PERSON
    )


def vehicle(rng: np.random.Generator, canvas: Canvas, box: Box, kind: str, label: int) -> None:
    """Body, windows, wheels, lights; nothing but `label` depends on standing or driving."""
    x0, y0, x1, y1 = box
    outline, windows = VEHICLES[kind]
    paint, to_right = _pick(rng, PAINTS), rng.random() < 0.5

    def place(points: Points) -> list[tuple[float, float]]:
        return [
            (x0 + (u if to_right else 1 - u) * (x1 - x0), y1 - v * (y1 - y0)) for u, v in points
        ]

    canvas.polygon(place(outline), paint, label)
    low = outline[0][1]
    canvas.polygon(
        place(((0, low), (0, low + 0.12), (1, low + 0.12), (1, low))), _tint(paint, 0.68)
    )
    canvas.polygon(
        place(((0.02, 0.46), (0.02, 0.5), (0.97, 0.47), (0.97, 0.43))), _tint(paint, 1.25)
    )
    for window in windows:
        canvas.polygon(place(window), GLASS)
        (ua, va), (ub, vb) = window[0], window[1]
        canvas.polygon(
            place(((ua + 0.02, va), (ub + 0.02, vb), (ub + 0.06, vb), (ua + 0.05, va))),
            (150, 176, 194),
        )
    canvas.polygon(place(((0.95, 0.34), (0.95, 0.44), (1, 0.42), (1, 0.34))), (252, 244, 204))
    canvas.polygon(place(((0, 0.36), (0, 0.5), (0.03, 0.5), (0.03, 0.36))), (150, 50, 46))
    radius = 3.7 if kind in ("car", "hatchback") else 4.0
    for u in (0.2, 0.79):
        ((x, _),) = place(((u, 0),))
        canvas.ellipse((x, y1 - radius), (radius, radius), (34, 34, 38), label)
        canvas.ellipse((x, y1 - radius), (radius * 0.52, radius * 0.52), (168, 172, 178))


def signal(rng: np.random.Generator, canvas: Canvas, x: float, base: float, *, red: bool) -> None:
    """A large dark box on a short pole, upper lamp red or lower lamp green."""
    label = SIGNAL_RED if red else SIGNAL_GREEN
    top, half, tall = base - rng.uniform(66, 72), rng.uniform(14, 15.5), rng.uniform(54, 58)
    canvas.rectangle((x - 3.4, top + tall, x + 3.4, base), (92, 96, 102), label)
    canvas.rectangle((x - 3.4, top + tall, x - 1.6, base), (128, 132, 138), label)
    canvas.rectangle((x - 6.5, base - 3, x + 6.5, base), (76, 80, 86), label)
    canvas.rectangle((x - half, top, x + half, top + tall), (222, 222, 214), label)
    canvas.rectangle((x - half + 1, top + 1, x + half - 1, top + tall - 1), (30, 32, 36))
    lamp = min(half - 2.8, tall * 0.2)
    lit, halo = ((255, 44, 36), (104, 24, 26)) if red else ((40, 240, 120), (18, 88, 56))
    for share, on in ((0.27, red), (0.73, not red)):
        center = (x, top + share * tall)
        if on:
            inner = (x - half + 1, center[1] - 0.23 * tall, x + half - 1, center[1] + 0.23 * tall)
            canvas.rectangle(inner, halo)
        canvas.ellipse(center, (lamp, lamp), lit if on else (58, 60, 64))
        if on:
            canvas.ellipse((x - 1, center[1] - 1), (lamp * 0.4, lamp * 0.4), _tint(lit, 1.1))
