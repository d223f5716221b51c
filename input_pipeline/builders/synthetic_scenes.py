"""Drawn street scenes: a data set without a download that local evidence cannot solve.

Standing and driving vehicles look alike, pixel by pixel. The traffic signal at the other end of the
street tells which class they are: at red all stand, at green all drive. A network whose context
ends before the signal has to guess; one that attends to the whole image knows.
"""

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from danet_jax.input_pipeline.builders import files
from danet_jax.input_pipeline.builders import scene_drawing as draw
from danet_jax.input_pipeline.builders.scene_canvas import UNITS, Canvas
from danet_jax.input_pipeline.images.codec import encode_label
from danet_jax.input_pipeline.labels import Labels

NAMES = (
    "sky",
    "ground",
    "building",
    "tree",
    "person",
    "signal_red",
    "signal_green",
    "vehicle_stopped",
    "vehicle_moving",
)
COLORS = (
    (135, 196, 235),
    (148, 140, 150),
    (214, 168, 120),
    (88, 158, 92),
    (242, 150, 196),
    (204, 36, 44),
    (160, 236, 72),
    (86, 84, 178),
    (38, 190, 190),
)

SEED = 20190616
NUM_SCENES = {"train": 2000, "val": 240}


# The distance from the centre of the signal to the edge of the nearest vehicle, in image widths.
SIGNAL_DISTANCE = 0.5


# A vehicle is not drawn where less than this of it lies inside the image.
SMALLEST_PART = 12.0


# Each row has the sky above, the sky at the horizon, the gain of the light and the share of lit
# windows.
TIMES_OF_DAY = (
    ((78, 140, 214), (196, 224, 242), (1.04, 1.03, 1.00), 0.0),  # noon
    ((112, 164, 214), (236, 232, 216), (1.06, 1.02, 0.94), 0.05),  # morning
    ((150, 160, 172), (206, 210, 212), (0.90, 0.92, 0.96), 0.15),  # overcast
    ((92, 110, 176), (250, 190, 132), (1.06, 0.92, 0.80), 0.3),  # sunset
    ((40, 52, 104), (150, 126, 160), (0.74, 0.76, 0.92), 0.6),  # dusk
)


def scene_rng(split: str, index: int) -> np.random.Generator:
    """Returns the generator of one scene of a split, the same on every machine and in any order."""
    return np.random.default_rng([SEED, list(NUM_SCENES).index(split), index])


@dataclasses.dataclass(frozen=True)
class Placement:
    """A thing on the ground: its kind, position and size."""

    kind: str  # "tree", "person" or a key of `scene_drawing.VEHICLES`
    x: float  # a vehicle's left edge, the middle of all else
    base: float  # the lowest y; what is lower stands in front
    size: float  # a person's height, a vehicle's scale


def _place_vehicles(
    rng: np.random.Generator, width: float, signal_x: float, road: tuple[float, float]
) -> list[Placement]:
    """Places vehicles in three lanes, one behind the other, with gaps."""
    placements: list[Placement] = []
    for lane in (0.36, 0.66, 0.97):
        x = signal_x + SIGNAL_DISTANCE * width + rng.uniform(0, 15)
        while x < width - SMALLEST_PART:
            kind = str(rng.choice(list(draw.VEHICLES), p=[0.3, 0.2, 0.2, 0.3]))
            size = rng.uniform(0.92, 1.08) * (0.8 + 0.3 * lane)
            base = road[0] + lane * (road[1] - road[0]) + rng.uniform(-1, 1)
            if rng.random() < 0.8 or not placements:
                placements.append(Placement(kind, x, base, size))
            x += draw.VEHICLE_SIZES[kind][0] * size + rng.uniform(2, 8)
    return placements


def _place_people(
    rng: np.random.Generator, width: float, signal_x: float, road: tuple[float, float]
) -> list[Placement]:
    nearest = signal_x + 26
    stands = {  # how far to the right, how far down
        "behind": (width - 4, road[0] - 3, road[0] - 0.5),
        "crossing": (signal_x + 0.4 * width, *road),
        "front": (width - 4, 89, 95),
    }
    placements = []
    for _ in range(rng.integers(2, 6)):
        farthest, top, bottom = stands[rng.choice(list(stands), p=[0.25, 0.25, 0.5])]
        x, base = rng.uniform(nearest, farthest), rng.uniform(top, bottom)
        tall = rng.uniform(0.92, 1.1) * (32 + 13 * (base - road[0]) / (95 - road[0]))
        placements.append(Placement("person", x, base, tall))
    return placements


def _place_trees(
    rng: np.random.Generator, width: float, road: tuple[float, float]
) -> list[Placement]:
    xs = rng.permutation(np.linspace(0.06, 0.94, 8))[: rng.integers(2, 6)] * width
    bases = road[0] - rng.uniform(3.5, 5, len(xs))
    return [
        Placement("tree", x + rng.uniform(-6, 6), base, 1.0)
        for x, base in zip(xs, bases, strict=True)
    ]


def _draw_thing(
    rng: np.random.Generator, canvas: Canvas, thing: Placement, vehicle_label: int
) -> None:
    if thing.kind == "tree":
        draw.tree(rng, canvas, thing.x, thing.base)
    elif thing.kind == "person":
        draw.person(rng, canvas, thing.x, thing.base, thing.size)
    else:
        long, tall = np.multiply(draw.VEHICLE_SIZES[thing.kind], thing.size)
        box = (thing.x, thing.base - tall, thing.x + long, thing.base)
        draw.vehicle(rng, canvas, box, thing.kind, vehicle_label)


def _draw_shadow(canvas: Canvas, thing: Placement) -> None:
    if thing.kind in draw.VEHICLES:
        half = draw.VEHICLE_SIZES[thing.kind][0] * thing.size / 2
        canvas.darken((thing.x + half, thing.base - 0.5), (half * 1.04, 2.6), 0.6)
    else:
        canvas.darken((thing.x + 2, thing.base), (7, 1.7), 0.7)


def _expose(
    rng: np.random.Generator, image: UInt8[np.ndarray, "h w 3"], gain: tuple[float, float, float]
) -> UInt8[np.ndarray, "h w 3"]:
    """Applies colour of the light, exposure, contrast and sensor noise to each pixel."""
    contrast, exposure = rng.uniform(0.88, 1.1), rng.uniform(0.84, 1.12)
    scale = np.asarray(gain, np.float32) * np.float32(contrast * exposure)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(1.5, 5))
    lit = image * scale + np.float32(110 * (1 - contrast)) + noise
    return np.clip(lit, 0, 255).astype(np.uint8)


def draw_scene(
    rng: np.random.Generator, *, height: int = 72, width: int = 208, red: bool | None = None
) -> tuple[UInt8[np.ndarray, "{height} {width} 3"], UInt8[np.ndarray, "{height} {width}"]]:
    """Draws a scene: an RGB image, and a label of indices into `NAMES`.

    Args:
      rng: Decides everything. The signal's lamp is one draw, on which no other draw depends.
      height: In pixels.
      width: In pixels, at least twice the height, to keep vehicles far from the signal.
      red: Overrules the lamp that `rng` drew; every other pixel stays as it is.

    Raises:
      ValueError: The picture is too narrow.
    """
    if width < 2 * height:
        raise ValueError(f"scenes are at least twice as wide as high, not {width}x{height}")
    drawn_red = bool(rng.integers(2))
    red = drawn_red if red is None else red
    canvas, units_wide = Canvas.blank(height, width), UNITS * width / height

    above, below, gain, lit = TIMES_OF_DAY[rng.integers(len(TIMES_OF_DAY))]
    horizon = rng.uniform(40, 46)
    road = horizon + rng.uniform(6, 9), rng.uniform(81, 86)
    signal_x = units_wide * rng.uniform(0.07, 0.11)

    things = (
        _place_vehicles(rng, units_wide, signal_x, road)
        + _place_people(rng, units_wide, signal_x, road)
        + _place_trees(rng, units_wide, road)
    )
    things.sort(key=lambda thing: thing.base)

    # Things are drawn from back to front, and the signal last, since nothing may cover it.
    draw.sky(rng, canvas, above, below)
    draw.ground(rng, canvas, horizon, road)
    draw.buildings(rng, canvas, horizon + 1.5, lit)
    for thing in things:
        _draw_shadow(canvas, thing)
    vehicle_label = draw.VEHICLE_STOPPED if red else draw.VEHICLE_MOVING
    for thing in things:
        _draw_thing(rng, canvas, thing, vehicle_label)
    draw.signal(rng, canvas, signal_x, rng.uniform(88, 93), red=red)

    image, label = canvas.downsample()
    if rng.random() < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    return _expose(rng, image, gain), np.ascontiguousarray(label)


class SyntheticScenes(tfds.core.GeneratorBasedBuilder):
    """2000 / 240 drawn streets of 208x72; a signal's lamp decides the class of all vehicles."""

    name = "synthetic_scenes"
    VERSION = tfds.core.Version("1.0.0")
    # TFDS 4.9.10 would otherwise look for these through importlib_resources, which nothing
    # installs.
    code_path = tfds.core.Path(__file__)
    pkg_dir_path = code_path.parent
    labels = Labels(NAMES, COLORS)

    def _info(self) -> tfds.core.DatasetInfo:
        return files.info(self, self.labels)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split) for split in NUM_SCENES}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        for index in range(NUM_SCENES[split]):
            image, label = draw_scene(scene_rng(split, index))
            png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
            name = f"{split}_{index:05d}"
            yield index, {"id": name, "image": png, "label": encode_label(label)}
