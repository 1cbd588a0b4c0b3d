"""Networks as named arrays in and out, and the rooms in which they are made."""

from engines.telemetry import switch_off

switch_off()  # Here, because it must come before any backend imports its library.
