"""Everything about the smoke network: how it is made, measured, shipped and called."""
