"""Makes frames between frames: motion in a reduced picture, one full-size warp."""
