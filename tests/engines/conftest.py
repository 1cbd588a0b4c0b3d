"""What this processor can compute in."""

import pytest

from engines.backends.cpu import open_engine
from engines.errors import DeviceUnavailable
from tests.support.onnx_bytes import one_node


@pytest.fixture(scope="session")
def cpu_precisions(tmp_path_factory) -> set[str]:
    """The precisions that the CPU engine opens in."""
    path = tmp_path_factory.mktemp("precisions") / "tiny.onnx"
    path.write_bytes(one_node())
    found = set()
    for precision in ("f32", "bf16"):
        try:
            open_engine(path, precision=precision).close()
        except DeviceUnavailable:
            continue
        found.add(precision)
    return found
