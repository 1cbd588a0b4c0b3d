"""Frame interpolation: networks, training, evaluation."""
