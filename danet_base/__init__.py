"""What both danet_jax and input_pipeline stand on; it imports neither of them."""
