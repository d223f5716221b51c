"""What counts as an image, and what is refused before it gives wrong labels."""

import jax.numpy as jnp
import numpy as np
import pytest

from danet_jax.base.errors import UserError
from danet_jax.base.imagenet import MEAN, STD
from danet_jax.images import check_image, check_images

MEANS, DEVIATIONS = (np.array(values)[None, None] for values in (MEAN, STD))


def photo(low=0, high=256, size=(6, 9)):
    return np.random.default_rng(0).integers(low, high, (*size, 3)).astype(np.uint8)


def normalized(image):
    return ((image / 255 - MEANS) / DEVIATIONS).astype(np.float32)


FOG, GREY = photo(124, 160), photo(124, 138)
ACCEPTED = {
    "uint8": photo(),
    "black": photo(0, 1),
    "one pixel": photo(size=(1, 1)),
    "normalised": normalized(photo()),
    "normalised night": normalized(photo(0, 4)),
    "normalised snow": normalized(photo(250, 256)),
    "normalised black": normalized(photo(0, 1)),
    "normalised white": normalized(photo(255, 256)),
    "float64": normalized(photo()).astype(np.float64),
    "float16": normalized(photo()).astype(np.float16),
    "bfloat16": jnp.asarray(normalized(photo()), jnp.bfloat16),
    "of jax": jnp.asarray(photo()),
    "overshot": 1.3 * normalized(photo()),
    # Nothing is to be seen of one colour, and a mean that normalised images are padded with is 0.
    "zeros": np.zeros((4, 5, 3), np.float32),
    "ones": np.ones((4, 5, 3), np.float32),
    "one grey": np.full((4, 5, 3), 0.5),
    "normalised grey": normalized(np.full((4, 5, 3), 128, np.uint8)),
    "normalised colour": normalized(np.full((4, 5, 3), (140, 120, 190), np.uint8)),
    "one pixel of floats": np.full((1, 1, 3), (0.1, 0.4, 0.2)),
    "brightest grey": np.full((4, 5, 3), 2.64, np.float32),
    # Brighter than the mean, and darker than the mean and one deviation.
    "normalised fog": normalized(FOG),
    "normalised fog, float64": (FOG / 255 - MEANS) / DEVIATIONS,
    "normalised fog, by levels": ((FOG - 255 * MEANS) / (255 * DEVIATIONS)).astype(np.float32),
    "normalised grey, resized": 0.5
    * sum(normalized(photo(124, 138)[:, i : i + 5]) for i in (0, 1)),
    "normalised grey, float16": normalized(photo(126, 139)).astype(np.float16),
    "normalised snow, resized": 0.97 * normalized(photo(220, 256)),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_images_that_count(name):
    image = ACCEPTED[name]
    checked = check_image(image)
    assert isinstance(checked, np.ndarray)
    assert checked.dtype == (np.uint8 if image.dtype == np.uint8 else np.float32)
    np.testing.assert_array_equal(checked, np.asarray(image).astype(checked.dtype))


def with_value(value):
    image = normalized(photo())
    image[2, 3, 1] = value
    return image


TO_255 = "looks like 0 to 255"
TO_1 = "looks like 0 to 1"
REFUSED = {
    **{f"int{bits}": (photo().astype(f"int{bits}"), "astype(numpy.uint8)") for bits in (32, 64)},
    "int8": (photo().astype(np.int8), "the image is int8"),
    "int16": (photo().astype(np.int16), "the image is int16"),
    "uint16": (257 * photo().astype(np.uint16), "the image is uint16"),
    "uint32": (photo().astype(np.uint32), "the image is uint32"),
    "bool": (photo() > 99, "the image is bool"),
    "complex": (normalized(photo()).astype(np.complex64), "the image is complex64"),
    "objects": (photo().astype(object), "the image is object"),
    "text": (np.full((2, 2, 3), "a"), "give uint8 RGB"),
    "float 0-255": (photo().astype(np.float32), TO_255),
    "float16 0-255": (photo().astype(np.float16), TO_255),
    "float64 0-255, resized": (photo() * 0.97, TO_255),
    "bfloat16 0-255": (jnp.asarray(photo(), jnp.bfloat16), TO_255),
    "dark 0-255": (photo(0, 3).astype(np.float32), TO_255),
    "dark 0-255, resized": (photo(0, 9) * 0.9, TO_255),
    "black and one, 0-255": (photo(0, 2).astype(np.float32), TO_255),
    "one bright grey, 0-255": (np.full((4, 5, 3), 3, np.float32), TO_255),
    "white, 0-255": (np.full((4, 5, 3), 255, np.float32), TO_255),
    "0-255 without its mean": (photo() - 255 * MEANS, TO_255),
    "float 0-1": (photo() / 255, TO_1),
    "float16 0-1": ((photo() / 255).astype(np.float16), TO_1),
    "dark 0-1": (photo(0, 9) / 255, TO_1),
    "dark 0-1, float32": ((photo(0, 9) / 255).astype(np.float32), TO_1),
    "dark 0-1, multiplied": (photo(3, 30).astype(np.float32) * np.float32(1 / 255), TO_1),
    "fog 0-1": ((FOG / 255).astype(np.float32), TO_1),
    "fog 0-1, resized": (0.99 * photo(100, 180) / 255, TO_1),
    "black and white 0-1": (np.float32(photo() > 127), TO_255),
    "0-1, resized by cubics": (1.08 * photo() / 255 - 0.04, TO_1),
    "nan": (with_value(np.nan), "not finite"),
    "inf": (with_value(np.inf), "not finite"),
    "channels first": (photo().transpose(2, 0, 1), "transpose(1, 2, 0)"),
    "a batch": (photo()[None], "labels(images)"),
    "grey": (photo()[..., 0], "[height, width, 3]"),
    "two channels": (photo()[..., :2], "[height, width, 3]"),
    "no rows": (photo()[:0], "empty"),
    "no dimension": (np.uint8(3), "[height, width, 3]"),
    "a path": ("photo.png", "of the type str"),
    "nothing": (None, "of the type NoneType"),
    "a list": (photo().tolist(), "of the type list"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_images_that_do_not(name):
    image, says = REFUSED[name]
    with pytest.raises(UserError) as caught:
        check_image(image)
    assert says in str(caught.value)


def test_each_image_of_a_batch_is_checked():
    good = np.stack([normalized(photo())] * 3)
    np.testing.assert_array_equal(check_images(good), good)
    np.testing.assert_array_equal(check_images(photo()[None]), photo()[None])
    bad = good.copy()
    bad[1] = photo() / 255
    with pytest.raises(UserError, match=f"image 1 of the batch .*{TO_1}"):
        check_images(bad)
    for faulty, says in ((photo(), "give images of one size"), (good[:0], "empty")):
        with pytest.raises(UserError, match=says):
            check_images(faulty)
    with pytest.raises(UserError, match="image 0 of the batch has the shape"):
        check_images(photo()[None, ..., :2])
