"""DANet (Dual Attention Network for Scene Segmentation, CVPR 2019) in JAX and Flax."""

from danet_jax.evaluation.predictor import Predictor
from danet_jax.models.danet import create_model
from danet_jax.models.resize import resize_bilinear
from danet_jax.training.state import create_train_state, train_step

__all__ = ["Predictor", "create_model", "create_train_state", "resize_bilinear", "train_step"]
