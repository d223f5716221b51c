"""Maps of ids in MATLAB's .mat files."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from jaxtyping import UInt16

from danet_jax.input_pipeline.checking import mistakes, reading
from danet_jax.input_pipeline.checking.pairs import LabelError


def read(file: Path) -> dict[str, Any]:
    """Returns the variables of a file by name.

    Raises:
      DataError: it is missing or empty.
      LabelError: it does not decode.
    """
    data = reading.read_bytes(file)
    try:
        # All variables are read, not only those that are used: a torn file may show in any of them.
        return scipy.io.loadmat(io.BytesIO(data))
    except Exception as error:  # SciPy's readers raise exceptions of many types.
        raise LabelError(f"does not decode ({error})") from None


def find_ids(content: Mapping[str, Any], name: str) -> UInt16[np.ndarray, "h w"]:
    """Returns the variable "NAME", or field "NAME.FIELD", of what `read` returns.

    Raises:
      LabelError: it is not there, or no map of ids of 16 bits.
    """
    variable, *fields = name.split(".")
    ids = content.get(variable)
    for field in fields:
        # A struct is an array of one record.
        if ids is not None:
            known = ids.size == 1 and field in (ids.dtype.names or ())
            ids = ids[field].item() if known else None
    if isinstance(ids, np.ndarray) and ids.ndim == 3 and ids.shape[2] == 3:
        raise LabelError(f"{name} holds colours", suspicions=[mistakes.COLORED])
    if not isinstance(ids, np.ndarray) or ids.ndim != 2 or ids.dtype.kind not in "iuf":
        raise LabelError(f"holds no map {name} of ids")
    # MATLAB may store ids as floating-point numbers.
    if not ((ids >= 0) & (ids <= np.iinfo(np.uint16).max) & (ids == np.floor(ids))).all():
        raise LabelError(f"{name} holds other values than ids")
    return ids.astype(np.uint16)
