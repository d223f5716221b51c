"""A user's own module, of the same name as a folder of danet-jax."""

OWNER = "the user"
