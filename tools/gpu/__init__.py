"""What `tools/gpu_check` and `tools/gpu_kit` are made of."""
