"""What all other parts build on; it imports none of them."""
