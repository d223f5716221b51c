"""A mistake that a type checker sees if the package's types travel with it."""

import danet_jax

danet_jax.evaluate(1)
