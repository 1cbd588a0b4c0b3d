"""The parts of `tools/gpu_check` and `tools/gpu_kit`."""
