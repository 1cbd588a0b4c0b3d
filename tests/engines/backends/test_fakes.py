"""The fakes have no more than the real libraries: what runs on them names nothing that is not."""

import importlib.util
import inspect

import pytest

from engines.backends import cuda, tensorrt
from engines.errors import DeviceUnavailable, PlanUnfit
from engines.spec import EngineSpec
from tests.support import fake_cuda, fake_tensorrt
from tests.support.fake_cuda import Machine
from tests.support.fake_tensorrt import FakeTensorRt

CLASSES = ("Runtime", "ICudaEngine", "IExecutionContext", "IRuntimeConfig")
ATTRIBUTES = {
    "ICudaEngine": {"device_memory_size_v2", "num_io_tensors", "num_optimization_profiles"},
    "IRuntimeConfig": {"dynamic_shapes_kernel_specialization_strategy"},
    "IExecutionContext": {"is_stream_capturable"},
}
"""What is set on objects and not written in their class."""
ENUMS = (
    "TensorIOMode",
    "ExecutionContextAllocationStrategy",
    "DynamicShapesKernelSpecializationStrategy",
)


@pytest.fixture(params=["tensorrt", pytest.param("rtx", marks=pytest.mark.compile)])
def library(request):
    try:
        return tensorrt.library(request.param)
    except DeviceUnavailable as error:
        pytest.skip(str(error))


def public(thing):
    return {name for name in vars(thing) if not name.startswith("_")}


@pytest.mark.parametrize("name", CLASSES)
def test_a_fake_class_has_only_what_the_real_one_has(library, name):
    wanted = public(getattr(fake_tensorrt, name)) | ATTRIBUTES.get(name, set())
    if library.edition != "rtx":
        # Asked for with getattr, or only used where the library is TensorRT for RTX.
        wanted -= {"is_stream_capturable", "dynamic_shapes_kernel_specialization_strategy"}
    wanted -= {"module"}  # a handle for tests
    assert wanted <= set(dir(getattr(library.module, name)))


@pytest.mark.parametrize("name", CLASSES)
def test_a_fake_method_takes_its_arguments_by_the_real_names(library, name):
    for method, code in inspect.getmembers(getattr(fake_tensorrt, name), inspect.isfunction):
        names = [each for each in inspect.signature(code).parameters if each != "self"]
        if method.startswith("_") or names == ["given"]:  # one of two overloads
            continue
        said = getattr(library.module, name).__dict__[method].__doc__
        assert all(f"{each}:" in said for each in names), (method, names)


def test_fake_choices_are_real_ones(library):
    for name in ENUMS:
        if name.startswith("Dynamic") and library.edition != "rtx":
            continue
        real = set(getattr(library.module, name).__members__)
        assert set(getattr(FakeTensorRt, name).__members__) <= real
    assert set(FakeTensorRt.DataType.__members__) <= set(library.module.DataType.__members__)
    assert set(FakeTensorRt.ILogger.Severity.__members__) == set(
        library.module.ILogger.Severity.__members__
    )


def test_the_types_mean_the_same(library):
    for kind in ("FLOAT", "HALF", "UINT8", "INT64"):
        real = library.module.nptype(getattr(library.module.DataType, kind))
        assert real == FakeTensorRt.DataType[kind].value.type
    with pytest.raises(TypeError):
        library.module.nptype(library.module.DataType.BF16)


def test_the_real_library_refuses_a_damaged_plan_as_the_fake_does(library, monkeypatch):
    machine = Machine().install(monkeypatch)
    spec = EngineSpec("negative", (), (), "")
    for module in (library.module, FakeTensorRt(machine)):
        messages = tensorrt.ErrorLog(module)
        gpu = cuda.gpu()
        found = tensorrt.Library(library.edition, library.version, module, messages)
        with pytest.raises(PlanUnfit, match="magicTag"), gpu.current("loading"):
            tensorrt.LoadedPlan(b"rubbish" * 50, found, gpu, spec=spec)


def test_what_a_library_says_is_kept_by_thread_until_it_is_asked_for(library):
    said, error = library.messages, library.module.ILogger.Severity.ERROR
    said.take()
    said.logger.log(error, "bad\n  luck")
    said.logger.log(library.module.ILogger.Severity.WARNING, "never mind")
    said.logger.log(error, "again")
    assert said.take() == "bad luck; again"
    assert said.take() == ""


@pytest.mark.gpu
def test_pycuda_has_what_the_fake_has():
    if importlib.util.find_spec("pycuda") is None:
        pytest.skip("PyCUDA is not installed")
    from pycuda import driver

    machine = Machine()
    fake = fake_cuda.Driver(machine)
    machine.stack().append(fake.Context())
    wanted = public(fake_cuda.Driver) - {"fail", "enter"} | {"Device", "Context", "Stream", "Event"}
    assert wanted <= set(dir(driver))
    for name, kind in {
        "Device": fake_cuda._Device, "Context": fake_cuda._Context, "Event": fake_cuda._Event,
    }.items():  # fmt: skip
        assert public(kind) - {"kind"} <= set(dir(getattr(driver, name)))
    machine.stack().clear()
