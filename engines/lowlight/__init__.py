"""Makes dark pictures visible: curves from a thumbnail, and the noise they would lift held down."""
