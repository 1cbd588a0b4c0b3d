"""Everything that can go wrong with an engine, as one tree.

* EngineError
  x ModelFileError       the model file is missing, damaged or no ONNX
  x ModelMismatch        arrays and network do not fit: what was given, what was expected
  x DeviceUnavailable    the device or precision that was asked for is not here
  x InaccurateEngine     a compiled network says something else than the reference
"""


class EngineError(Exception):
    """Base class of the errors that engines raise on purpose."""


class ModelFileError(EngineError):
    """The model file is missing, empty, damaged or no ONNX network."""


class ModelMismatch(EngineError):  # noqa: N818  states a fact; "Error" is in the base
    """Names, shapes or types do not fit the network; the message names the input or output."""


class DeviceUnavailable(EngineError):  # noqa: N818  as above
    """The device or the precision that was asked for cannot be had on this machine."""


class InaccurateEngine(EngineError):  # noqa: N818  as above
    """A compiled network differs from the reference by more than its written tolerance."""
