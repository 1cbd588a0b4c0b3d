"""The fakes have no more names than the real libraries."""

import importlib.util
import inspect

import pytest

from engines.backends import cuda, tensorrt
from engines.errors import DeviceUnavailable, PlanUnfit
from engines.spec import EngineSpec
from tests.support import fake_cuda, fake_tensorrt
from tests.support.fake_cuda import Machine
from tests.support.fake_tensorrt import FakeTensorRt

CLASSES = ("Runtime", "ICudaEngine", "IExecutionContext")
RTX_CLASSES = ("IRuntimeConfig", "IRuntimeCache")
ATTRIBUTES = {
    "ICudaEngine": {"device_memory_size_v2", "num_io_tensors", "num_optimization_profiles"},
    "IRuntimeConfig": {"dynamic_shapes_kernel_specialization_strategy", "cuda_graph_strategy"},
}
"""Attributes of objects that are not in their class."""
ENUMS = ("TensorIOMode", "ExecutionContextAllocationStrategy")
RTX_ENUMS = ("DynamicShapesKernelSpecializationStrategy", "CudaGraphStrategy")


@pytest.fixture(params=["tensorrt", pytest.param("rtx", marks=pytest.mark.compile)])
def library(request):
    try:
        return tensorrt.library(request.param)
    except DeviceUnavailable as error:
        pytest.skip(str(error))


def public(thing):
    return {name for name in vars(thing) if not name.startswith("_")}


@pytest.fixture(params=[*CLASSES, *RTX_CLASSES])
def name(request, library):
    if request.param in RTX_CLASSES and library.edition != "rtx":
        pytest.skip("only TensorRT for RTX has it")
    return request.param


def test_a_fake_class_has_only_what_the_real_one_has(library, name):
    wanted = public(getattr(fake_tensorrt, name)) | ATTRIBUTES.get(name, set())
    wanted -= {"module"}  # a handle for tests
    assert wanted <= set(dir(getattr(library.module, name)))


def test_a_fake_method_takes_its_arguments_by_the_real_names(library, name):
    for method, code in inspect.getmembers(getattr(fake_tensorrt, name), inspect.isfunction):
        names = [each for each in inspect.signature(code).parameters if each != "self"]
        if method.startswith("_") or names == ["given"]:  # one of two overloads
            continue
        signatures = getattr(library.module, name).__dict__[method].__doc__
        assert all(f"{each}:" in signatures for each in names), (method, names)


def test_fake_choices_are_real_ones(library):
    for name in (*ENUMS, *(RTX_ENUMS if library.edition == "rtx" else ())):
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


def test_errors_of_the_library_are_collected_per_thread_until_they_are_taken(library):
    log, error = library.errors, library.module.ILogger.Severity.ERROR
    log.take()
    log.logger.log(error, "bad\n  luck")
    log.logger.log(library.module.ILogger.Severity.WARNING, "never mind")
    log.logger.log(error, "again")
    assert log.take() == "bad luck; again"
    assert log.take() == ""


@pytest.mark.gpu
def test_pycuda_has_what_the_fake_has():
    if importlib.util.find_spec("pycuda") is None:
        pytest.skip("PyCUDA is not installed")
    from pycuda import driver

    machine = Machine()
    fake = fake_cuda.Driver(machine)
    machine.stack().append(fake.Context())
    wanted = public(fake_cuda.Driver) - {"fail", "enter"} | {"Device", "Context", "Stream"}
    assert wanted <= set(dir(driver))
    for name, kind in {"Device": fake_cuda._Device, "Context": fake_cuda._Context}.items():
        assert public(kind) - {"kind"} <= set(dir(getattr(driver, name)))
    machine.stack().clear()
