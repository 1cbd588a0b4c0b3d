"""Low-light enhancement: network, training, evaluation."""
