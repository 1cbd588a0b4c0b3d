"""Plans: networks compiled for NVIDIA GPUs, made, kept, proven and changed over to."""
