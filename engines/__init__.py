"""Networks as named arrays in and out, and the rooms in which they are made."""
