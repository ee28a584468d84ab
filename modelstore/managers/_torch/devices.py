"""Where tensors go when they are loaded: the device that the caller asks for, or the recorded one if it is here."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError
from modelstore.managers.base import LoadRequest


def checked_device(device: Any) -> str | None:
    """The device that a caller asks for; None if none was asked for.

    Raises:
        InvalidArgumentError: it is no device, or this machine has no such; names those there are.
    """
    if device is None:
        return None
    import torch

    try:
        found = torch.device(device)
        if found.type != "meta":
            torch.empty(1, device=found)
    except Exception as error:  # each backend has its own error for a device that is not there
        raise InvalidArgumentError(
            "device", f"torch cannot use the device {device!r} here; there are {', '.join(devices())}"
        ) from error
    return str(found)


def asked_device(request: LoadRequest) -> str | None:
    """The device that a load asks for.

    Raises:
        InvalidArgumentError: as `checked_device`; or `into` is given too, which lies somewhere already.
    """
    if request.into is not None and request.device is not None:
        raise InvalidArgumentError("device", "into= is filled on the devices that it lies on: move it there instead")
    return checked_device(request.device)


def devices() -> list[str]:
    """The devices that torch can use on this machine."""
    import torch

    found = ["cpu", "meta"]
    found += [f"cuda:{at}" for at in range(torch.cuda.device_count())]
    found += [f"xpu:{at}" for at in range(torch.xpu.device_count())]
    return [*found, "mps"] if torch.backends.mps.is_available() else found


def absent_devices(state: Mapping[str, Any]) -> list[str]:
    """The devices that a record's `devices` names and this machine lacks.

    Raises:
        IntegrityError: it does not name devices.
    """
    recorded = state.get("devices", [])
    if not isinstance(recorded, list) or not all(isinstance(each, str) for each in recorded):
        raise IntegrityError("the record", "state", f"{str(recorded)[:80]} is no list of devices")
    return [each for each in recorded if not is_available(each)]


@functools.cache
def is_available(device: str) -> bool:
    """Whether tensors that were on this device can go back to it; `meta` would lose them."""
    import torch

    try:
        return device == "cpu" or torch.empty(1, device=device).device.type != "meta"
    except Exception:  # each backend has its own error for a device that is not there
        return False
