"""What both danet_jax and input_pipeline build on; it imports neither of them."""
