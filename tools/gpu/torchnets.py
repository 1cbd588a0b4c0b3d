"""The rooms' networks in PyTorch with the weights of their shipped ONNX files; no checkpoints.

An exported file names the weights of layers that it left alone as the network does. Batch
normalisation that followed a convolution was folded into it, and such weights have no name; but
the file holds convolutions in the order in which they ran, and so does the network when it runs. A
folded pair becomes the convolution with the file's weights and a normalisation that adds its bias.
What is left after that is weights that a function takes instead of a layer, told by their shape.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from engines.errors import ModelMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from engines.registry import RegistryEntry

_Weights = dict[str, "NDArray[np.float32]"]


def _smoke(name: str) -> nn.Module:
    from engines.smoke.network import NETWORKS, DeployedNetwork

    return DeployedNetwork(NETWORKS[name]())


def _lowlight(_: str) -> nn.Module:
    from engines.lowlight.network import DeployedNetwork, LowLightNetwork

    return DeployedNetwork(LowLightNetwork())


def _interpolation(_: str) -> nn.Module:
    from engines.interpolation.network import DeployedFusionNet, FusionNet

    return DeployedFusionNet(FusionNet())


def _whole(_: str) -> nn.Module:
    from engines.interpolation.flow_network.network import DeployedFlowNetwork, FlowNetwork

    return DeployedFlowNetwork(FlowNetwork())


ROOMS: Mapping[str, Callable[[str], nn.Module]] = {
    "smoke": _smoke,
    "smoke-fast": _smoke,
    "lowlight": _lowlight,
    "interpolation": _interpolation,
    "interpolation-whole": _whole,
}
"""What makes each network, by its name in the catalogue."""


def network_of(entry: RegistryEntry) -> nn.Module:
    """A catalogue's network in PyTorch, in f32 on the CPU, ready to be asked.

    Raises:
        ModelMismatch: There is no such network in PyTorch, or the file's weights are not its own.
    """
    if entry.name not in ROOMS:
        raise ModelMismatch(f"{entry.name} is no network of PyTorch's")
    deployed = ROOMS[entry.name](entry.name).eval()
    sample = [torch.from_numpy(np.ascontiguousarray(a)) for a in _inputs(entry)]
    take_weights(deployed, onnx.load_from_string(entry.model().content), sample)
    return deployed


def _inputs(entry: RegistryEntry) -> list[NDArray[Any]]:
    """A sample's arrays in the order of the file."""
    sample = min(entry.samples(), key=lambda each: sum(a.size for a in each.values()))
    graph = onnx.load_from_string(entry.model().content).graph
    return [sample[value.name] for value in graph.input]


def take_weights(deployed: nn.Module, model: onnx.ModelProto, sample: list[Tensor]) -> None:
    """Give a network the weights of a file that was exported from one like it.

    Raises:
        ModelMismatch: Layers or shapes differ.
    """
    weights = _weights(model)
    state = deployed.state_dict()
    found = {name: weights[name] for name in state if name in weights}
    found |= _folded(deployed, model, weights, set(found), sample)
    used = {id(array) for array in found.values()}
    for name, tensor in state.items():
        if name not in found and tensor.is_floating_point():
            left = [array for array in weights.values() if id(array) not in used]
            found[name] = _by_shape(name, tuple(tensor.shape), left)
    for name, array in found.items():
        if tuple(state[name].shape) != array.shape:
            raise ModelMismatch(f"{name}: expected {tuple(state[name].shape)}, got {array.shape}")
        state[name].copy_(torch.from_numpy(np.array(array, np.float32)))


def _by_shape(
    name: str, shape: tuple[int, ...], left: list[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The one array of that shape, sides of one left aside: functions come with some of these."""
    sides = [side for side in shape if side != 1]
    fitting = [array for array in left if [side for side in array.shape if side != 1] == sides]
    if len(fitting) != 1:
        raise ModelMismatch(f"the file has {len(fitting)} weights that may be {name} {shape}")
    return fitting[0].reshape(shape)


def _weights(model: onnx.ModelProto) -> _Weights:
    """Every constant of the file in f32, by the name it has where it is used."""
    found = {}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind == "f":
            # Stored in 16 bits under another name, and cast to the one that the layer uses.
            found[tensor.name.removesuffix(".f16")] = array.astype(np.float32)
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in found:  # equal ones are written once
            found[node.output[0]] = found[node.input[0]]
    return found


def _folded(
    deployed: nn.Module,
    model: onnx.ModelProto,
    weights: _Weights,
    named: set[str],
    sample: list[Tensor],
) -> _Weights:
    """Weights of convolutions that were joined with what followed them, by the network's names."""
    layers = [
        (weights[node.input[1]], weights[node.input[2]])
        for node in model.graph.node
        if node.op_type == "Conv" and len(node.input) > 2 and node.input[1] in weights  # noqa: PLR2004  with a bias
        and node.input[1] not in named
    ]  # fmt: skip
    pairs = [
        (name, after)
        for name, after in _in_order(deployed, sample)
        if f"{name}.weight" not in named
    ]
    if len(layers) != len(pairs):
        raise ModelMismatch(f"the file has {len(layers)} joined layers, the network {len(pairs)}")
    found: _Weights = {}
    modules = dict(deployed.named_modules())
    for (weight, bias), (name, after) in zip(layers, pairs, strict=True):
        if after is None:
            raise ModelMismatch(f"{name}: nothing follows it that it could be joined with")
        found[f"{name}.weight"] = weight
        norm = modules[after]
        assert isinstance(norm, nn.BatchNorm2d), "what follows is one"
        ones = np.ones_like(bias)
        # (x - 0) / sqrt(1 + eps) * sqrt(1 + eps) + bias
        found[f"{after}.weight"] = ones * np.float32(math.sqrt(1 + norm.eps))
        found[f"{after}.bias"] = bias
        found[f"{after}.running_mean"], found[f"{after}.running_var"] = 0 * ones, ones
    return found


def _in_order(deployed: nn.Module, sample: list[Tensor]) -> list[tuple[str, str | None]]:
    """Convolutions in the order in which they run, each with the normalisation right behind it."""
    ran: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in deployed.named_modules()
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))
    ]
    with torch.inference_mode():
        deployed(*sample)
    for hook in hooks:
        hook.remove()
    modules = dict(deployed.named_modules())
    return [
        (name, after if after and isinstance(modules[after], nn.BatchNorm2d) else None)
        for name, after in zip(ran, [*ran[1:], None], strict=True)
        if isinstance(modules[name], nn.Conv2d)
    ]
