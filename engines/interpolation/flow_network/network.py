"""The network of the GPU way: two pictures and a time in, the picture between out.

Coarse to fine, it follows each pixel of the time between into both pictures at once (intermediate
flow, as IFNet: Huang et al., ECCV 2022, arXiv 2011.06294). A step looks the features of both up
where the motion so far leads, and is offered what their structure tensor asks for (Lucas and
Kanade, IJCAI 1981) and how alike the neighbours are (a cost volume as PWC-Net's: Sun et al., CVPR
2018, arXiv 1709.02371); it learns how far to believe them, and what to add. One set of weights
serves every scale and every turn, so that a network of half a million parameters finds large
motion, too. To the motion an affine one is fitted, the background's; what is taken from which of
the four guesses is said by shares, visibility as in Super SloMo (Jiang et al., CVPR 2018, arXiv
1712.00080). Nothing here is taken from another's code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.interpolation.network import DOUBT, GUESSES, Residual, Up, conv

SCALES = 5
"""Motion is searched at 1/2, 1/4 ... of the reduced picture; the first is the finest."""
STRIDE = 1 << SCALES
"""Height and width of the reduced picture must be multiples of this."""
TURNS = (1, 3, 5, 6, 6)
"""Steps at each scale, the finest first. Coarse ones cost next to nothing, and with twice as many
large motion is found: 1.3 dB on the worst clip."""
FEATURES, STATE = 24, 48
REACH = 2
"""Pixels on either side between which features are compared: the cost volume has 25 planes."""
WINDOWS = (5, 11)
"""Sides of the windows of the structure tensors, in pixels."""
FARTHEST_PX = 2.0
"""Of one step by the structure tensor."""
FITS = 4
FIT_EVERY = 4
DEAD, GAIN, MOST_ASIDE = 0.04, 0.5, 0.25
"""Of what blur tells of a camera's path: see `lean`."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What the network says of a time between."""

    motions: list[Tensor]
    """(n, 2, h', w') of each scale, the coarsest first: from before to after, in its pixels."""
    ways: Tensor
    """(n, 4, h/2, w/2): where to look in before (x, y) and in after, in pixels of that size."""
    background: Tensor
    """(n, 4, h/2, w/2): the same as the background moves."""
    shares: Tensor
    """(n, 4, h, w), adding up to 1."""


def look_up(source: Tensor, way: Tensor) -> Tensor:
    """A picture (n, c, h, w) where a field (n, 2, h, w) of pixels (x, y) leads."""
    height, width = source.shape[2:]
    across = torch.arange(width, dtype=way.dtype, device=way.device)
    down = torch.arange(height, dtype=way.dtype, device=way.device)
    x = (way[:, 0] + across) * (2.0 / (width - 1)) - 1.0
    y = (way[:, 1] + down.unsqueeze(1)) * (2.0 / (height - 1)) - 1.0
    at = torch.stack([x, y], -1)
    return functional.grid_sample(source, at, "bilinear", "border", align_corners=True)


def larger(field: Tensor, times: int = 2) -> Tensor:
    """A field or picture at so many times its size."""
    return functional.interpolate(
        field, scale_factor=float(times), mode="bilinear", align_corners=False
    )


class _Encoder(nn.Module):
    """Features of one picture at every scale, the finest first."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(conv(3, FEATURES, 2), Residual(FEATURES))
        self.further = nn.ModuleList(
            nn.Sequential(conv(FEATURES, FEATURES, 2), Residual(FEATURES))
            for _ in range(SCALES - 1)
        )
        self.told = nn.Conv2d(FEATURES, FEATURES, 1)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """(n, 3, h, w) to (n, c, h/2, w/2), (n, c, h/4, w/4) and so on, of unit length."""
        found = [self.first(picture)]
        for part in self.further:
            found.append(part(found[-1]))
        made = []
        for each in found:
            told = self.told(each)
            made.append(told * torch.rsqrt(told.square().sum(1, keepdim=True) + 1e-4))
        return made


def tensor_step(before: Tensor, after: Tensor, windows: tuple[int, ...]) -> Tensor:
    """The step that the structure tensor asks for, (x, y) for each window, and how sure it is.

    Args:
        before: (n, c, h, w), looked up where the motion so far leads.
        after: The same of the other picture.
        windows: Sides of the windows.

    Returns:
        (n, 3 for each window, h, w).
    """
    apart = after - before
    # The slopes are taken as given, as in the inverse compositional search: not differentiated.
    mean = 0.5 * (before + after).detach()
    padded = functional.pad(mean, (1, 1, 1, 1), mode="replicate")
    x = 0.5 * (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2])
    y = 0.5 * (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1])
    products = torch.stack(
        [(x * x).sum(1), (x * y).sum(1), (y * y).sum(1), (x * apart).sum(1), (y * apart).sum(1)], 1
    )
    made = []
    for side in windows:
        around = functional.avg_pool2d(products, side, 1, side // 2, count_include_pad=False)
        xx, xy, yy, xr, yr = around.unbind(1)
        xx, yy = xx + 1e-3, yy + 1e-3
        area = xx * yy - xy * xy
        step = torch.stack([(xy * yr - yy * xr) / area, (xy * xr - xx * yr) / area], 1)
        made += [FARTHEST_PX * torch.tanh(step / FARTHEST_PX), (area.unsqueeze(1) + 1e-8).log() / 8]
    return torch.cat(made, 1)


def likeness(before: Tensor, after: Tensor) -> Tensor:
    """(n, 25, h, w): how alike a feature of unit length is to those around it in the other picture.

    Differentiated by the first alone: pictures change places from sample to sample, and cutting out
    of what is differentiated costs as much as all the rest.
    """
    around = functional.pad(after.detach(), (REACH, REACH, REACH, REACH))
    # Ends counted from the end need no sizes: the exported graph is a tenth as long.
    steps = [(low, low - 2 * REACH or None) for low in range(2 * REACH + 1)]
    rows = torch.stack([around[:, :, low:high] for low, high in steps], 1)
    planes = [(before.unsqueeze(1) * rows[..., low:high]).sum(2) for low, high in steps]
    return torch.stack(planes, 2).flatten(1, 2)


def blur_apart(before: Tensor, after: Tensor) -> Tensor:
    """How otherwise the one luma (n, 1, h, w) is smeared than the other: (n, 2, 2).

    The difference of the logarithms of their structure tensors, less what is the same in every
    direction. Times the motion, it points to where a camera that gathers speed or turns is half-way
    in time; see `lean.py`.
    """
    return _direction(before) - _direction(after)


def lean(blur: Tensor) -> Tensor:
    """(n, 2, 2): times the motion, how far beside half-way a camera is half-way in time.

    Differences within the dead zone say nothing. Of windows moved and smeared on purpose, one half
    of what exceeds it is what fits best.
    """
    size = blur[:, :1].square().sum(2, keepdim=True).add(1e-8).sqrt()
    return blur * ((size - DEAD) * GAIN).clamp(0, MOST_ASIDE) / size


def _direction(luma: Tensor) -> Tensor:
    """The traceless part of the logarithm of a structure tensor."""
    x = (luma[:, :, 1:-1, 2:] - luma[:, :, 1:-1, :-2]) * 127.5
    y = (luma[:, :, 2:, 1:-1] - luma[:, :, :-2, 1:-1]) * 127.5
    xx, xy, yy = ((a * b).mean((1, 2, 3)) for a, b in ((x, x), (x, y), (y, y)))
    mean, apart = (xx + yy) / 2 + 0.1, (xx - yy) / 2
    reach = (apart.square() + xy.square() + 1e-6).sqrt()
    lesser = (mean - reach).clamp_min(1e-2)
    steep = ((mean + reach).log() - lesser.log()) / (2 * reach)
    rows = [torch.stack([apart, xy], 1), torch.stack([xy, -apart], 1)]
    return torch.stack(rows, 1) * steep[:, None, None]


class _Step(nn.Module):
    """One step towards the motion, at any scale."""

    def __init__(self) -> None:
        super().__init__()
        offered = 3 * len(WINDOWS)
        told = 2 * FEATURES + (2 * REACH + 1) ** 2 + offered + 5
        self.look = nn.Conv2d(told, STATE, 1)
        self.remember = nn.Conv2d(STATE, STATE, 1)
        self.think = nn.Sequential(Residual(STATE), Residual(STATE), Residual(STATE))
        self.say = nn.Conv2d(STATE, 2 + len(WINDOWS) + 4, 3, 1, 1)

    def forward(
        self,
        features: tuple[Tensor, Tensor],
        motion: Tensor,
        state: Tensor,
        blur: Tensor,
        t: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Motion, state, and how far the two ways depart from it.

        Args:
            features: (n, c, h, w) of the picture before and of the one after.
            motion: (n, 2, h, w) so far.
            state: (n, s, h, w) of the step before.
            blur: (n, 2, 2), see `blur_apart`.
            t: (n, 1, 1, 1).
        """
        first, second = features
        before, after = look_up(first, -t * motion), look_up(second, (1 - t) * motion)
        offered = tensor_step(before, after, WINDOWS)
        moment = t.expand(-1, 1, *motion.shape[2:])
        told = [before - after, before + after, likeness(before, after)]
        apart = (blur @ motion.flatten(2)).reshape(motion.shape)
        seen = torch.cat([*told, offered, motion * 0.1, apart * 0.5, moment], 1)
        x = functional.leaky_relu(self.look(seen) + self.remember(state), 0.1)
        x = self.think(x)
        said = self.say(x)
        for number in range(len(WINDOWS)):
            step = offered[:, 3 * number : 3 * number + 2]
            motion = motion + torch.sigmoid(said[:, 2 + number : 3 + number] - 1.0) * step
        return motion + said[:, :2], x, said[:, -4:]


def background(motion: Tensor) -> Tensor:
    """The affine motion (n, 2, h, w) that most of a motion (n, 2, h, w) follows.

    Fitted with weights that fall with the distance from the last fit, as `flow.background` does.
    """
    height, width = motion.shape[2:]
    y = torch.linspace(-1, 1, height, dtype=motion.dtype, device=motion.device)
    x = torch.linspace(-1, 1, width, dtype=motion.dtype, device=motion.device)
    places = torch.stack(
        [
            torch.ones(height, width).to(motion),
            x.expand(height, width),
            y[:, None].expand(height, width),
        ]
    )
    points = functional.avg_pool2d(places[None], FIT_EVERY).flatten(2)  # (1, 3, p)
    moved = functional.avg_pool2d(motion, FIT_EVERY).flatten(2)  # (n, 2, p)
    weight = torch.ones_like(moved[:, :1])
    fit = None
    for _ in range(FITS + 1):
        weighted = points * weight
        normal = weighted @ points.transpose(1, 2) / weight.sum(2, keepdim=True)
        right = weighted @ moved.transpose(1, 2) / weight.sum(2, keepdim=True)
        fit = _inverse(normal) @ right  # (n, 3, 2)
        off = (moved - fit.transpose(1, 2) @ points).square().sum(1, keepdim=True)
        scale = off.mean(2, keepdim=True) * 0.25 + 0.02
        weight = (scale / (scale + off)).square()
    assert fit is not None, "it is fitted at least once"
    return (fit.transpose(1, 2) @ places.flatten(1)).reshape(-1, 2, height, width)


def _inverse(m: Tensor) -> Tensor:
    """Of symmetric matrices (n, 3, 3), by cofactors: runtimes have no solver."""
    a, b, c = m[:, 0, 0] + 1e-3, m[:, 0, 1], m[:, 0, 2]
    d, e, f = m[:, 1, 1] + 1e-3, m[:, 1, 2], m[:, 2, 2] + 1e-3
    ca, cb, cc = d * f - e * e, c * e - b * f, b * e - c * d
    cd, ce, cf = a * f - c * c, b * c - a * e, a * d - b * b
    area = a * ca + b * cb + c * cc
    rows = [torch.stack(row, 1) for row in ([ca, cb, cc], [cb, cd, ce], [cc, ce, cf])]
    return torch.stack(rows, 1) / area[:, None, None]


def _split(motion: Tensor, t: Tensor, leaning: Tensor) -> Tensor:
    """(n, 4, h, w): where a motion (n, 2, h, w) leads from a time into before and into after.

    Args:
        motion: From before to after.
        t: (n, 1, 1, 1).
        leaning: (n, 2, 2): times the motion, how far the camera is from where even motion would
            have brought it. At the ends it is where it is seen to be.
    """
    aside = (leaning @ motion.flatten(2)).reshape(motion.shape)
    return torch.cat([aside - t * motion, aside + (1 - t) * motion], 1)


class _Mixer(nn.Module):
    """How much of each guess to take."""

    def __init__(self) -> None:
        super().__init__()
        c2, c4, c8 = 40, 64, 96  # at a half, a quarter and an eighth of what goes in
        self.stem = nn.Conv2d(3 * GUESSES + 6, c2, 3, 2, 1)
        self.beside = nn.Conv2d(STATE + 7, c2, 1)
        self.down4 = nn.Sequential(conv(c2, c4, 2), Residual(c4))
        self.down8 = nn.Sequential(conv(c4, c8, 2), Residual(c8), Residual(c8))
        self.up4 = Up(c8, c4)
        self.up2 = Up(c4, c2)
        self.head = nn.Conv2d(c2, 4 * GUESSES, 1)

    def forward(self, guesses: list[Tensor], state: Tensor, fields: Tensor, t: Tensor) -> Tensor:
        """(n, 4, h, w) from guesses (n, 3, h, w), a state and fields at half that size."""
        pairs = ((0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2))
        apart = [(guesses[i] - guesses[j]).abs().sum(1, keepdim=True) for i, j in pairs]
        felt = torch.log(1 + 40 * torch.cat(apart, 1))
        x2 = self.stem(torch.cat([felt, *guesses], 1))
        moment = t.expand(-1, 1, *state.shape[2:])
        x2 = functional.leaky_relu(
            x2 + self.beside(torch.cat([state, fields * 0.1, moment], 1)), 0.1
        )
        x4 = self.down4(x2)
        x = self.up4(self.down8(x4), x4)
        said = functional.pixel_shuffle(self.head(self.up2(x, x2)), 2)
        nearer = torch.log((1 - t) / t) * 0.5
        usual = torch.cat([nearer, -nearer, nearer + DOUBT, DOUBT - nearer], 1)
        return (said + usual).softmax(1)


class FlowNetwork(nn.Module):
    """Motion, background and shares of a time between, of reduced pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _Encoder()
        self.step = _Step()
        self.mixer = _Mixer()
        self._begin()

    def forward(self, before: Tensor, after: Tensor, t: Tensor) -> Found:
        """What lies between.

        Args:
            before: (n, 3, h, w) luma and colour difference around 0, 1 from black to white.
            after: The same.
            t: (n, 1, 1, 1), 0 to 1.
        """
        first, second = self.encoder(before), self.encoder(after)
        blur = blur_apart(before[:, :1], after[:, :1])
        motion = torch.zeros_like(first[-1][:, :2])
        state = torch.zeros_like(first[-1][:, :1]).repeat(1, STATE, 1, 1)
        departed = torch.zeros_like(state[:, :4])
        motions: list[Tensor] = []
        for scale in reversed(range(SCALES)):
            if motions:
                motion, state = 2 * larger(motion), larger(state)
            for _ in range(TURNS[scale]):
                pair = first[scale], second[scale]
                motion, state, departed = self.step(pair, motion, state, blur, t)
            motions.append(motion)
        behind = background(motion)
        leaning = 4 * t.flatten(1).unsqueeze(2) * (1 - t.flatten(1).unsqueeze(2)) * lean(blur)
        ways = _split(motion, t, leaning) + departed
        beyond = _split(behind, t, leaning)
        guesses = []
        for way in (ways, beyond):
            full = 2 * larger(way)
            guesses += [look_up(before, full[:, :2]), look_up(after, full[:, 2:])]
        fields = torch.cat([motion, motion - behind, departed[:, :2]], 1)
        shares = self.mixer(guesses, state, fields, t)
        return Found(motions, ways, beyond, shares)

    def _begin(self) -> None:
        """Signals keep their size from layer to layer (He et al., 2015); nothing is said yet."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, a=0.1)
                assert part.bias is not None, "convolutions here have one"
                nn.init.zeros_(part.bias)
        for part in self.modules():
            if isinstance(part, Residual):
                part.conv.weight.data *= 0.3
        nn.init.normal_(self.step.say.weight, std=1e-3)
        nn.init.normal_(self.mixer.head.weight, std=1e-3)


def synthesise(plane_before: Tensor, plane_after: Tensor, found: Found) -> Tensor:
    """Planes (n, c, H, W) of the time between; H and W are whole multiples of the field's."""
    height, width = plane_before.shape[2:]
    rows, columns = found.ways.shape[2:]
    scale = torch.tensor([width / columns, height / rows]).to(plane_before).view(1, 2, 1, 1)
    shares = _sized(found.shares, height, width)
    made = torch.zeros_like(plane_before)
    for number, way in enumerate((found.ways, found.background)):
        full = _sized(way, height, width) * scale.repeat(1, 2, 1, 1)
        for side, plane in enumerate((plane_before, plane_after)):
            guess = look_up(plane, full[:, 2 * side : 2 * side + 2])
            made = made + shares[:, 2 * number + side : 2 * number + side + 1] * guess
    return made


def _sized(field: Tensor, height: int, width: int) -> Tensor:
    if field.shape[2:] == (height, width):
        return field
    return functional.interpolate(field, size=(height, width), mode="bilinear", align_corners=False)


class DeployedFlowNetwork(nn.Module):
    """The network with the arrays of the program in and out."""

    def __init__(self, network: FlowNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, before: Tensor, after: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Ways and background (1, 4, h/2, w/2), shares (1, 4, h, w).

        Args:
            before: (1, h, w, 3) uint8.
            after: The same.
            t: (1,).
        """
        first, second = (p.permute(0, 3, 1, 2).float() * (1 / 255) - 0.5 for p in (before, after))
        found = self.network(first, second, t.view(1, 1, 1, 1))
        return found.ways, found.background, found.shares
