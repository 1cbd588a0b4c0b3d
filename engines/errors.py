"""Everything that can go wrong with an engine, as one tree.

* EngineError
  x ModelFileError       the model file is missing, damaged or no ONNX
  x ModelMismatch        arrays and network do not fit: what was given, what was expected
  x DeviceUnavailable    the device or precision that was asked for is not here
  x DeviceLost           the device was there and stopped answering; what runs on it is gone
  x OutOfDeviceMemory    the device has less free memory than this takes
  x StateLost            what a stream remembered on the device is gone: it begins anew
  x PlanUnfit            a compiled plan is damaged, or was made for another library or GPU
  x UnsupportedLayer     the compiler knows no way to run a layer; the message names it
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


class DeviceLost(EngineError):  # noqa: N818  as above
    """The device stopped answering in mid-run. Nothing on it can be used again by this process."""


class OutOfDeviceMemory(EngineError):  # noqa: N818  as above
    """The device has less free memory than was asked for. What ran before goes on running."""


class StateLost(EngineError):  # noqa: N818  as above
    """There is no state to go on from: the stream that it was of begins anew."""


class PlanUnfit(EngineError):  # noqa: N818  as above
    """A compiled plan is missing, damaged, or was made for another library, version or GPU."""


class UnsupportedLayer(EngineError):  # noqa: N818  as above
    """The compiler knows no way to run a layer of the network; the message names the layer."""


class InaccurateEngine(EngineError):  # noqa: N818  as above
    """A compiled network differs from the reference by more than its written tolerance."""
