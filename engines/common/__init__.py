"""What several networks share: metrics, training, data."""
