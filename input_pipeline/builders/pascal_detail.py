"""Label maps of PASCAL in Detail, https://github.com/zhanghang1989/detail-api."""

import collections
import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt16

from danet_jax.base.errors import DataError, unreadable_file
from danet_jax.input_pipeline.builders import run_lengths
from danet_jax.input_pipeline.checking.pairs import LabelError

# The file is large, so only these keys are kept: parts of objects, boundaries and key points are
# dropped.
_KEYS = frozenset(
    (
        *("images", "image_id", "file_name", "phase", "height", "width"),
        *("annos_segmentation", "category_id", "segmentation", "size", "counts"),
    )
)


class Annotations:
    """The images of trainval_merged.json, and a map of category ids for each.

    `phases` lists the names of the images of "train", "val" and "test", sorted.

    Raises:
      DataError: the file is no JSON, or of another content.
    """

    def __init__(self, file: Path):
        try:
            with file.open(encoding="utf-8") as opened:
                content = json.load(opened, object_hook=_keep)
        except OSError as error:
            raise unreadable_file(error) from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"does not decode ({error})") from None
        self.phases: dict[str, list[str]] = collections.defaultdict(list)
        self._sizes: dict[str, tuple[int, int]] = {}
        self._masks: dict[str, list[tuple[int, dict]]] = {}
        try:
            names: dict[int, str] = {}
            for image in content["images"]:
                name = names[image["image_id"]] = Path(image["file_name"]).stem
                self.phases[image["phase"]].append(name)
                self._sizes[name] = (image["height"], image["width"])
                self._masks[name] = []
            for mask in content["annos_segmentation"]:
                id, segmentation = mask["category_id"], mask["segmentation"]
                self._masks[names[mask["image_id"]]].append((id, segmentation))
        except (KeyError, TypeError) as error:
            raise DataError(f"holds no images with annos_segmentation ({error!r})") from None
        for listed in self.phases.values():
            listed.sort()

    def label(self, name: str) -> UInt16[np.ndarray, "h w"]:
        """Returns the category of each pixel of an image, 0 where there is none.

        Where masks overlap, the last one in the file counts, as in Detail.getMask.

        Raises:
          LabelError: a mask is torn, of another size than the image, or its category is no id.
        """
        size = self._sizes[name]
        label = np.zeros(size, np.uint16)
        for id, segmentation in self._masks[name]:
            try:
                counts, mask_size = segmentation["counts"], tuple(segmentation["size"])
            except (KeyError, TypeError):
                raise LabelError("a mask without counts and size") from None
            if not isinstance(counts, str):
                raise LabelError("a mask that is no string of run lengths")
            if mask_size != size:
                raise LabelError(f"a mask of height and width {mask_size}, but the image's {size}")
            if not isinstance(id, int) or not 0 <= id <= np.iinfo(np.uint16).max:
                raise LabelError(f"a mask of category {id!r}, which is no id")
            label[run_lengths.decode(counts, size)] = id
        return label


def _keep(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in _KEYS}
