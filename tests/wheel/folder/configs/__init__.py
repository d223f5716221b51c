"""A user's own package, of the same name as a folder of danet-jax."""

OWNER = "the user"
