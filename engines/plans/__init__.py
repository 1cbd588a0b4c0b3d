"""Plans: networks compiled for NVIDIA GPUs; building, caching, validation, fallback."""
