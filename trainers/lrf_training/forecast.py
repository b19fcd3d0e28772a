"""What ``lrf plan`` says of a training: memory on each GPU, hours, and which settings would make it fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lrf.errors import ConfigError
from lrf.types import JSON
from lrf_training.memory import GIB, MemoryEstimate, estimate, pass_of
from lrf_training.shape import ModelShape, UnknownShapeError, shape_of

MARGIN = 1.1
"""Memory that a GPU must have over what is estimated, which is right within a tenth."""


def forecast(settings: Any, model: str, world: int) -> dict[str, JSON]:
    """The forecast for ``settings``, a :class:`lrf_training.settings.TrainingSettings`, in ``world`` processes.

    Returns ``longest``, the longest sample in tokens, and the model's ``window``; ``gib`` by purpose and
    ``gib_together``, on each GPU; ``gpu_gb``, what it has, and ``fits``; ``change``, the settings to change where it
    doesn't fit (None if no change would do) and ``gib_then``; ``steps`` and ``hours``, if every sample were as long as
    the longest (None where the number of steps isn't set), and ``hours_a_thousand`` samples. For a model of unknown
    shape only ``unknown``, the reason.
    """
    try:
        shape = shape_of(model)
    except UnknownShapeError as error:
        return {"unknown": str(error)}
    window = settings.window or shape.window
    longest = settings.max_tokens or window
    if not longest:
        return {"unknown": f"{model} doesn't say its longest sequence; set max_tokens"}
    needed = estimate(settings, shape, world, longest)
    change, then = (
        (dict[str, JSON](), needed) if _fits(settings, needed) else _what_fits(settings, shape, world, longest)
    )
    seconds = flops_a_row(settings, shape, longest) / (world * settings.gpu.tflops * 1e12 * settings.gpu.use)
    rows = settings.max_steps * settings.global_batch if settings.max_steps else None
    return {
        "model": model,
        "longest": longest,
        "window": window,
        "gib": {name: _gib(getattr(needed, name)) for name in needed.__slots__},
        "gib_together": _gib(needed.together),
        "gpu_gb": settings.gpu.memory_gb,
        "fits": _fits(settings, needed),
        "change": change,
        "gib_then": _gib(then.together),
        "steps": settings.max_steps,
        "hours": round(rows * seconds / 3600, 1) if rows else None,
        "hours_a_thousand": round(1000 * seconds / 3600, 1),
    }


def flops_a_row(settings: Any, shape: ModelShape, longest: int) -> float:
    """Floating-point operations of the longest row in all passes of an epoch, over all processes.

    A matrix product takes two a weight and token; causal attention 2 · query · tokens a token and layer. A backward
    pass is two forward ones, or one where the weights are frozen; checkpointed activations are computed once more.
    """
    work = pass_of(settings, shape, longest)
    tokens = work.tokens * settings.sequence_parallel / settings.micro_batch
    scored = work.scored / settings.micro_batch
    sequence = tokens / (work.masked / settings.micro_batch or 1)
    forward = 2 * shape.active * tokens + 2 * shape.layers * shape.query * sequence * tokens + 2 * shape.head * scored
    reference = hasattr(settings, "stores_reference")
    passes = 1 + (1 if getattr(settings, "lora", None) else 2) + work.checkpointed + reference
    return float(forward * passes)


def _gib(amount: float) -> float:
    return round(amount / GIB, 1)


def _fits(settings: Any, needed: MemoryEstimate) -> bool:
    return bool(needed.together * MARGIN <= settings.gpu.memory_gb * 1e9)


def _what_fits(
    settings: Any, shape: ModelShape, world: int, longest: int
) -> tuple[dict[str, JSON] | None, MemoryEstimate]:
    """The fewest of the changes that make it fit; None if all of them don't, and what is left then."""

    def with_changes(changes: Mapping[str, JSON]) -> MemoryEstimate:
        tried = settings.model_copy(update={k: v for k, v in changes.items() if k in type(settings).model_fields})
        tried.shares(world)
        return estimate(tried, shape, world, longest)

    changed: dict[str, JSON] = {}
    best = with_changes(changed)
    for change in _changes(settings, world):
        try:
            needed = with_changes(changed | change)
        except ConfigError:  # the batch can't be shared so
            continue
        if needed.together < best.together:
            changed, best = changed | change, needed
        if not _fits(settings, best):
            continue
        for name in list(changed):
            fewer = {n: value for n, value in changed.items() if n != name}
            if _works(settings, fewer) and _fits(settings, needed := with_changes(fewer)):
                changed, best = fewer, needed
        return changed, best
    return None, best


def _works(settings: Any, changes: Mapping[str, JSON]) -> bool:
    """Whether the changes make valid settings."""
    value = {name: changes.get(name, getattr(settings, name)) for name in ("zero", "offload", "sequence_parallel")}
    needs = 3 if value["sequence_parallel"] > 1 or value["offload"] == "all" else 2 if value["offload"] != "none" else 0
    return bool(value["zero"] >= needs)


def _changes(settings: Any, world: int) -> Iterator[dict[str, JSON]]:
    """Changes of settings in the order in which to try them: what costs least first."""
    yield {"gradient_checkpointing": True}
    yield {"micro_batch": 1}
    yield {"mlp_tiles": 16}
    if world > 1:
        yield {"zero": 3}
    yield {"activation_offload": True}
    if world > 1 and getattr(settings, "prefix_sharing", None) != "off":
        for processes in (2, 4, 8):
            if world % processes == 0:
                yield {"zero": 3, "sequence_parallel": processes}
    yield {"zero": 3, "offload": "optimizer"}
    yield {"zero": 3, "offload": "all"}
