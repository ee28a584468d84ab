"""What an onnxruntime session was made with, as JSON, and a session made with it again.

What comes from the store sets nothing but what is listed here: other options load libraries or write files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelstore.exceptions import InvalidArgumentError

CPU = "CPUExecutionProvider"

PROVIDERS = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "dml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
"""What `device=` may name."""

_PLAIN = {
    **dict.fromkeys(("enable_cpu_mem_arena", "enable_mem_pattern", "enable_mem_reuse"), bool),
    **dict.fromkeys(("use_deterministic_compute", "use_per_session_threads"), bool),
    **dict.fromkeys(("inter_op_num_threads", "intra_op_num_threads"), int),
    **dict.fromkeys(("log_severity_level", "log_verbosity_level"), int),
}
_ENUMS = {
    "execution_mode": "ExecutionMode",
    "execution_order": "ExecutionOrder",
    "graph_optimization_level": "GraphOptimizationLevel",
}
_ENTRIES = (
    *("session.disable_prepacking", "session.set_denormal_as_zero", "session.disable_quant_qdq"),
    *("session.disable_double_qdq_remover", "session.enable_quant_qdq_cleanup", "session.dynamic_block_base"),
    *("session.intra_op.allow_spinning", "session.inter_op.allow_spinning", "session.enable_gelu_approximation"),
    *("session.qdq_matmulnbits_accuracy_level", "mlas.enable_gemm_fastmath_arm64_bfloat16"),
)
"""Entries of a session's configuration that change how it computes; onnxruntime lists none, so each is asked for."""

_PROVIDER_OPTIONS = frozenset(
    {
        *("device_id", "gpu_mem_limit", "arena_extend_strategy", "cudnn_conv_algo_search", "use_tf32"),
        *("do_copy_in_default_stream", "cudnn_conv_use_max_workspace", "prefer_nhwc", "enable_cuda_graph"),
    }
)


def describe(session: Any) -> dict[str, Any]:
    """Its options where they differ from the usual, and its providers, in order."""
    import onnxruntime

    given, usual = session.get_session_options(), onnxruntime.SessionOptions()
    options: dict[str, Any] = {}
    for name in _PLAIN:
        if getattr(given, name, None) != getattr(usual, name, None):
            options[name] = getattr(given, name)
    for name in _ENUMS:
        if getattr(given, name, None) != getattr(usual, name, None):
            options[name] = getattr(given, name).name
    entries = {name: value for name in _ENTRIES if (value := _entry(given, name)) is not None}
    providers = [
        [name, {key: value for key, value in found.items() if key in _PROVIDER_OPTIONS}]
        for name, found in ((name, session.get_provider_options().get(name, {})) for name in session.get_providers())
    ]
    return {"options": options, "entries": entries, "providers": providers}


def _entry(options: Any, name: str) -> str | None:
    try:
        return str(options.get_session_config_entry(name))
    except RuntimeError:
        return None  # it was not set


def options_of(described: Mapping[str, Any]) -> Any:
    """A `SessionOptions` with what `describe` gave.

    Raises:
        KeyError, TypeError, ValueError: it is nothing that `describe` gives.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    for name, value in described["options"].items():
        if name in _ENUMS and hasattr(onnxruntime, _ENUMS[name]):
            setattr(options, name, getattr(onnxruntime, _ENUMS[name]).__members__[value])
        elif name in _PLAIN and hasattr(options, name):
            setattr(options, name, _PLAIN[name](value))
    for name, value in described["entries"].items():
        if name in _ENTRIES:
            options.add_session_config_entry(name, str(value))
    return options


def providers_of(described: Mapping[str, Any], device: str | None) -> list[tuple[str, dict[str, str]]]:
    """The recorded providers that this machine has, or those for `device`; the CPU's comes last.

    Raises:
        InvalidArgumentError: no provider is known for this device, or this machine has not got it.
        KeyError, TypeError, ValueError: it is nothing that `describe` gives.
    """
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if device is not None:
        chosen = [_for_device(device, available)]
    else:
        chosen = [
            (str(name), {key: str(value) for key, value in found.items() if key in _PROVIDER_OPTIONS})
            for name, found in described["providers"]
            if name in available
        ]
    return chosen if any(name == CPU for name, _ in chosen) else [*chosen, (CPU, {})]


def _for_device(device: str, available: list[str]) -> tuple[str, dict[str, str]]:
    kind, _, number = device.partition(":")
    provider = PROVIDERS.get(kind)
    if provider is None or (number and not number.isdigit()):
        raise InvalidArgumentError("device", f"{device!r} is none of {', '.join(PROVIDERS)}, with or without a number")
    if provider not in available:
        raise InvalidArgumentError(
            "device", f"{device!r} takes onnxruntime's {provider}, and there are only {', '.join(available)}"
        )
    return provider, {"device_id": number} if number and provider != CPU else {}
