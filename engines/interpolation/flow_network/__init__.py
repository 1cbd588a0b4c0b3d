"""The network of the GPU way: motion, visibility and pictures in one graph."""
