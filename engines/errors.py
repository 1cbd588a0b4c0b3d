"""Errors of engines, as one tree.

* EngineError
  x ModelFileError       the model file is missing, damaged or not ONNX
  x ModelMismatch        the arrays do not fit the network; the message says what was expected
  x DeviceUnavailable    this machine does not have the requested device or precision
  x DeviceLost           the device stopped answering; the process cannot use it again
  x OutOfDeviceMemory    the device has less free memory than was requested
  x StateLost            the state of a stream on the device is gone; the stream starts again
  x PlanUnfit            a compiled plan is damaged, or was made for another library or GPU
  x BuildStopped         the compilation of a plan was stopped on request
  x UnsupportedLayer     the compiler cannot run a layer of the network; the message names it
  x InaccurateEngine     a compiled network differs from the reference by more than its tolerance
"""


class EngineError(Exception):
    """Base class of the errors that engines raise on purpose."""


class ModelFileError(EngineError):
    """The model file is missing, empty, damaged or not an ONNX network."""


class ModelMismatch(EngineError):  # noqa: N818  states a fact; "Error" is in the base
    """Names, shapes or types do not fit the network; the message names the input or output."""


class DeviceUnavailable(EngineError):  # noqa: N818  as above
    """This machine does not have the requested device or precision."""


class DeviceLost(EngineError):  # noqa: N818  as above
    """The device stopped answering. This process cannot use it again."""


class OutOfDeviceMemory(EngineError):  # noqa: N818  as above
    """The device has less free memory than was requested. Earlier allocations stay valid."""


class StateLost(EngineError):  # noqa: N818  as above
    """The stream has no state to continue from: start it again."""


class PlanUnfit(EngineError):  # noqa: N818  as above
    """A compiled plan is missing, damaged, or was made for another library, version or GPU."""


class BuildStopped(EngineError):  # noqa: N818  as above
    """The compilation was stopped on request; nothing of it is left."""


class UnsupportedLayer(EngineError):  # noqa: N818  as above
    """The compiler cannot run a layer of the network; the message names the layer."""


class InaccurateEngine(EngineError):  # noqa: N818  as above
    """A compiled network differs from the reference by more than its written tolerance."""
