"""A user's script: its own two modules beside danet_jax, and a run of this folder."""

import numpy as np
from PIL import Image

import configs
import danet_jax
import input_pipeline
from danet_jax.configs import synthetic_scenes

assert configs.OWNER == input_pipeline.OWNER == "the user"
assert synthetic_scenes.get_config().data.name == "synthetic_scenes"

written = np.asarray(Image.open("labelled/street_label.png"))
predictor = danet_jax.Predictor.from_workdir("run")
np.testing.assert_array_equal(predictor("street.png"), written)
(labels,) = danet_jax.predict("run", ["street.png"])
np.testing.assert_array_equal(labels, written)
