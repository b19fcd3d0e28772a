"""The check of samplers, to be called from their own tests. It draws a handful of real candidates."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import get_args

from lrf.prompting.requests import FinishReason, Reply
from lrf.protocols import Capabilities, GenerationSettings, Sampler
from lrf.testing.require import must, must_be_json
from lrf.types import Message

DRAWING = GenerationSettings(
    (Message("user", "The contract was signed in 1997.\n\nWhen was it signed?"),), (1,), 1.0, 1.0, 24
)


async def check_sampler(sampler: Sampler) -> None:
    """A sampler gives a candidate for each seed, in one call or several, and the same ones again if it says so.

    Raises AssertionError that says what is wrong. The sampler is left open.
    """
    must(isinstance(sampler, Sampler), f"{type(sampler).__name__} lacks a member of lrf.protocols.Sampler")
    must_be_json(dict(sampler.identity), "identity")
    must(dict(sampler.identity) == dict(sampler.identity), "identity differs from call to call")
    must(isinstance(sampler.capabilities, Capabilities), "capabilities must be lrf.protocols.Capabilities")
    for name in ("per_call", "max_concurrency"):
        number = getattr(sampler, name)
        must(isinstance(number, int) and number >= 1, f"{name} is {number!r}, not 1 or more")
    must(sampler.request_timeout_s > 0, f"request_timeout_s is {sampler.request_timeout_s!r}, not above 0")
    seeds = tuple(range(11, 11 + min(3, sampler.per_call)))
    together = await _drawn(sampler, replace(DRAWING, seeds=seeds))
    alone = [(await _drawn(sampler, replace(DRAWING, seeds=(seed,))))[0] for seed in seeds]
    if sampler.capabilities.seed:
        for seed, one, other in zip(seeds, together, alone, strict=True):
            must(one.text == other.text, f"seed {seed} gives {one.text!r}, and {other.text!r} in a call of its own")
    await _drawn(sampler, replace(DRAWING, temperature=0.0, top_p=0.9))


async def _drawn(sampler: Sampler, generation: GenerationSettings) -> list[Reply]:
    replies = list(await sampler.sample(generation))
    wanted = len(generation.seeds)
    must(len(replies) == wanted, f"sample() gave {len(replies)} replies for {wanted} seeds")
    for reply in replies:
        must(isinstance(reply, Reply) and isinstance(reply.text, str), "sample() gave no Reply with a text")
        must(reply.finish in get_args(FinishReason), f"a reply has the finish {reply.finish!r}")
        for count in asdict(reply.usage).values():
            must(isinstance(count, int) and count >= 0, f"a reply has the usage {reply.usage}")
    return replies
