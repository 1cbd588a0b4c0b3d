"""The low-light room."""
