"""What a fixed camera normally shows: scene recognition, background model and frame difference.

`SceneTracker` recognises a scene by its edges, whatever the light. `Background` is the same scene
some minutes ago, the second input of the network. `FrameDifference` measures what changed within
the last second. Each belongs to one camera and one thread.
"""

import math
from collections import deque
from typing import Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
"""(height, width, 3)."""

Signature = NDArray[np.float32]
"""Edge signature of a scene, (24, 40): edge strengths as a vector of at most unit length. Weak
edges give a shorter vector."""

SIGNATURE_SIZE: Final = (24, 40)
"""(height, width) of a signature; details and noise are averaged away at this size."""

_NS: Final = 1_000_000_000

_MAX_DISTANCE: Final = 0.8
"""Squared distance between two signatures above which they show different scenes: a correlation of
about 0.5. The same scene in other light correlates above 0.8, another scene below 0.4."""

_EDGE_FLOOR: Final = 6.0
"""Added to the norm of the edge strengths. Fog and dark nights have weaker edges than this and
cannot be distinguished. Noise of three levels has a norm of 4, a landscape of 35 to 95."""

_FOLLOW_S: Final = 50.0
"""Time constant with which the stored signature follows the light, so that noon and dusk stay one
scene."""

_REFERENCE_AGE_NS: Final = _NS
"""Age of the frame that `FrameDifference` compares with. It is fixed, so that the rate of
inferences does not matter."""

_MAX_REFERENCE_AGE_NS: Final = 15 * _NS
"""Above this age the light has changed and a difference means nothing."""

_NOISE_FLOOR: Final = 0.3
"""Levels added to the median change; without it, everything is motion in a noiseless frame."""


class SceneTracker:
    """Recognises when the camera has moved, and follows the light of the day."""

    def __init__(self) -> None:
        self.number = 0
        """Number of the current scene; counts up whenever the camera has moved."""

        self.signature: Signature | None = None
        """Signature of the current scene; `None` before the first frame. Replaced, never
        modified."""

        self._updated_ns = 0

    def update(self, pts_ns: int, image: Rgb) -> int:
        """Return the number of the scene that *image* shows.

        Args:
            pts_ns: Media time; never decreases.
            image: (height, width, 3) RGB.
        """
        current = edge_signature(image)
        if self.signature is None:
            self.signature = current
        elif not same_scene(current, self.signature):
            self.number += 1
            self.signature = current
        else:
            weight = np.float32(1 - math.exp((self._updated_ns - pts_ns) / (_FOLLOW_S * _NS)))
            self.signature = self.signature + weight * (current - self.signature)
        self._updated_ns = pts_ns
        return self.number


def same_scene(one: Signature, other: Signature) -> bool:
    """Whether two signatures show the same scene."""
    return float(np.square(one - other).sum()) <= _MAX_DISTANCE


def edge_signature(image: Rgb) -> Signature:
    """Return the edge signature of *image*, (height, width, 3) RGB of any size."""
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(half, cv2.COLOR_RGB2GRAY)
    across, down = cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)
    # The root keeps a single bright edge from dominating the signature.
    strength = cv2.sqrt(cv2.magnitude(across, down))
    small = cv2.resize(strength, SIGNATURE_SIZE[::-1], interpolation=cv2.INTER_AREA)
    small -= small.mean()
    return cast("Signature", small / np.float32(np.linalg.norm(small) + _EDGE_FLOOR))


class Background:
    """Background model of a fixed camera: the median of a few frames of some minutes ago.

    It holds what is always in the scene: masts, glare, a hazy ridge. A frame becomes part of it
    only when it is old enough that a growing plume cannot be in it yet. When the camera moves, the
    model starts over.

    Memory: the frames in the median and those that wait, at the network's input size, 0.7 MB each
    at 640x384.

    Args:
        min_age_s: Age in seconds at which a frame becomes part of the model.
        step_s: Seconds between two frames that are stored.
        slots: Number of frames in the median; odd.
    """

    def __init__(self, *, min_age_s: float = 90, step_s: float = 45, slots: int = 3) -> None:
        if slots < 1 or slots % 2 == 0:
            raise ValueError(f"slots must be odd, got {slots}")
        self._min_age_ns = round(min_age_s * _NS)
        self._step_ns = round(step_s * _NS)
        self._waiting: deque[tuple[int, Rgb]] = deque()
        self._slots: deque[Rgb] = deque(maxlen=slots)
        self._scene_number = 0
        self.current: Rgb | None = None
        """The model, (height, width, 3) RGB; `None` until a frame is old enough."""

        self.scene = SceneTracker()
        """Recognises the scene that the model belongs to."""

        self.frozen = False
        """While set, no new frame becomes part of the model, because smoke may be in it. The
        detector sets it from the state of the alarm."""

    def update(self, pts_ns: int, image: Rgb) -> Rgb | None:
        """Add a frame and return the model to compare it with; `None` while there is none.

        Args:
            pts_ns: Media time; never decreases.
            image: (height, width, 3) RGB at the network's input size.
        """
        self._reset_if_moved(pts_ns, image)
        if self.frozen:
            self._waiting.clear()
        elif not self._waiting or pts_ns - self._waiting[-1][0] >= self._step_ns:
            self._waiting.append((pts_ns, image))
        while self._waiting and pts_ns - self._waiting[0][0] >= self._min_age_ns:
            self._slots.append(self._waiting.popleft()[1])
            self.current = _median(list(self._slots))
        return self.current

    def _reset_if_moved(self, pts_ns: int, image: Rgb) -> None:
        number = self.scene.update(pts_ns, image)
        if number != self._scene_number:
            self._scene_number = number
            self._waiting.clear()
            self._slots.clear()
            self.current = None


class FrameDifference:
    """Change since about one second ago: smoke billows, a hazy ridge does not.

    The measure is relative: 1 is the median change of the whole frame, through noise, wind in the
    trees or a shaking mast. Smoke changes by several times that; a bright cloud bank, a roof or
    dirt on the lens by less.
    """

    def __init__(self) -> None:
        self._past: deque[tuple[int, NDArray[np.uint8]]] = deque()

    def update(self, pts_ns: int, image: Rgb, size: tuple[int, int]) -> NDArray[np.float32] | None:
        """Add a frame and return its change, shaped *size*; `None` without a frame to compare with.

        Args:
            pts_ns: Media time; never decreases.
            image: (height, width, 3) RGB.
            size: (height, width) of the result.
        """
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(gray, size[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
        while len(self._past) > 1 and pts_ns - self._past[1][0] >= _REFERENCE_AGE_NS:
            self._past.popleft()
        reference_ns, reference = self._past[0] if self._past else (pts_ns, small)
        self._past.append((pts_ns, small))
        age_ns = pts_ns - reference_ns
        comparable = _REFERENCE_AGE_NS // 2 <= age_ns <= _MAX_REFERENCE_AGE_NS
        if not comparable or reference.shape != small.shape:
            return None
        change = cv2.blur(cv2.absdiff(small, reference).astype(np.float32), (3, 3))
        median = float(np.median(change[::4, ::4]))
        return (change / np.float32(median + _NOISE_FLOOR)).astype(np.float32)


def _median(images: list[Rgb]) -> Rgb:
    """Return the median of the newest odd number of *images*."""
    if len(images) == 1:
        return images[0]
    stack = images if len(images) % 2 else images[1:]
    return cast("Rgb", np.median(np.stack(stack), axis=0).astype(np.uint8))
