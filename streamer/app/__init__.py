"""From a configuration to running parts: the only package that names concrete classes."""
