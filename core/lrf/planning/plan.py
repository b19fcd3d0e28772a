"""What a pipeline will ask for, and what of it is paid already: the scoring engine with judges that only count.

One engine's judges answer with replies of the run's journal, or with made-up ones of the expected form, so whatever a
dimension does (a third party's too) is counted: calls saved by equal requests, notes shared by candidates, prompts as
they will be (``lrf.planning.expected``). A second engine counts the upper bound (``lrf.planning.upper_bound``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from lrf.config.prices import SAMPLING
from lrf.types import JSON

if TYPE_CHECKING:
    from lrf.config import Pipeline
    from lrf.stages.data import DataResult
    from lrf.stages.run_dir import RunDir

PRICED_SAMPLES = 200

_COUNTS = ("samples", "bad_rows", "candidates", "to_sample", "priced_samples", "bound_samples", "calibration_samples",
           "document_tokens", "statements", "texts_to_embed")  # fmt: skip


@dataclass(slots=True)
class Estimate:
    """What one dimension (or all, or the sampler) is expected to ask for, and its upper bound.

    Prices are in the prices' currency; None without a price.

    Parameters
    ----------
    calls, prompt_tokens, reply_tokens, price: of all calls, those that are paid already included.
    shared_tokens: tokens of prompts that are the beginning of an earlier prompt of the same judge; a prefix cache saves
        them, and ``price`` counts them as cached.
    kept_calls: calls whose reply is in the run's journal or the cache; they cost nothing.
    left_calls, left_price: the calls that are still to be paid.
    bound_calls, bound_prompt_tokens, bound_reply_tokens, bound_price: the upper bound of all calls.
    """

    calls: int = 0
    prompt_tokens: int = 0
    shared_tokens: int = 0
    reply_tokens: int = 0
    price: float | None = None
    kept_calls: int = 0
    left_calls: int = 0
    left_price: float | None = None
    bound_calls: int = 0
    bound_prompt_tokens: int = 0
    bound_reply_tokens: int = 0
    bound_price: float | None = None

    def scale(self, factor: float, bound: float) -> None:
        """Multiply all figures, those of the upper bound by ``bound``."""
        for part in fields(self):
            value = getattr(self, part.name)
            if value is not None:
                scaled = value * (bound if part.name.startswith("bound") else factor)
                setattr(self, part.name, scaled if part.name.endswith("price") else round(scaled))
        self.left_calls = self.calls - self.kept_calls


@dataclass(slots=True)
class Plan:
    """What a pipeline will do and need.

    Parameters
    ----------
    samples, bad_rows, candidates: of the data; ``to_sample`` of the candidates are to be sampled first, or are written
        by the trainer ``written_by`` while it trains.
    priced_samples: the samples that were gone through in full; the estimates are of these, scaled to all.
    bound_samples: those of them that the upper bound is of: all, unless there are more samples than were gone through.
    calibration_samples: samples of the calibration set, each scored twice; they are in the estimates.
    document_tokens, longest_document_tokens: of the samples' documents.
    statements: the statements expected in all answers.
    max_statements: statements an answer in the upper bound, by dimension that asks for some.
    assumed_statements: the dimensions that don't say how many they judge: ``max_statements`` is assumed.
    unlisted_retrievers: retrievers that don't list their chunks: whole documents are taken for each query's evidence.
    bound_holds: whether no run over the same data can use more than the upper bound. False where samples were scaled,
        candidates are to be sampled, or something above is assumed.
    slots: calls that a server of each judge, or of the sampler, takes at once: the most of them.
    texts_to_embed: texts that are to be embedded; they have no price.
    currency, prices: of all prices, and the version of the price file.
    unpriced: judges whose model has no price, with its name.
    batches: judges that are asked by a provider's batch API.
    missing_keys: environment variables without which `lrf run` doesn't begin to pay and that are not set, by the block
        that names them.
    dimensions: the estimates, by dimension; the sampler's is under :data:`lrf.config.prices.SAMPLING`.
    """

    samples: int = 0
    bad_rows: int = 0
    candidates: int = 0
    to_sample: int = 0
    written_by: str = ""
    priced_samples: int = 0
    bound_samples: int = 0
    calibration_samples: int = 0
    document_tokens: int = 0
    longest_document_tokens: int = 0
    statements: int = 0
    max_statements: dict[str, int] = field(default_factory=dict)
    assumed_statements: list[str] = field(default_factory=list)
    unlisted_retrievers: list[str] = field(default_factory=list)
    bound_holds: bool = True
    slots: int = 0
    texts_to_embed: int = 0
    currency: str | None = None
    prices: str = ""
    unpriced: dict[str, str] = field(default_factory=dict)
    batches: list[str] = field(default_factory=list)
    missing_keys: dict[str, str] = field(default_factory=dict)
    dimensions: dict[str, Estimate] = field(default_factory=dict)

    def total(self) -> Estimate:
        """All dimensions together; a price is None where one of theirs is."""
        parts = [asdict(estimate) for estimate in self.dimensions.values()]
        sums: dict[str, Any] = {
            part.name: None if any(p[part.name] is None for p in parts) else sum(p[part.name] for p in parts)
            for part in fields(Estimate)
        }
        return Estimate(**sums)

    def left_calls_by_stage(self) -> dict[str, int]:
        """The calls that are still to be paid, by stage: "sample" and "score", as far as the pipeline has them."""
        left = {name: estimate.left_calls for name, estimate in self.dimensions.items()}
        sample = {"sample": left.pop(SAMPLING)} if SAMPLING in left else {}
        return sample | ({"score": sum(left.values())} if left else {})

    def as_json(self) -> Mapping[str, JSON]:
        return {**asdict(self), "total": asdict(self.total())}


def together(plans: Mapping[str, Plan]) -> Plan:
    """Several runs' plans as one; a dimension is named ``RUN: DIMENSION``, and by itself if the run's name is ""."""
    every = list(plans.values())
    whole = Plan(
        bound_holds=all(plan.bound_holds for plan in every),
        currency=next((plan.currency for plan in every if plan.currency), None),
        prices=next((plan.prices for plan in every if plan.prices), ""),
    )
    for run, plan in plans.items():
        for count in _COUNTS:
            setattr(whole, count, getattr(whole, count) + getattr(plan, count))
        for most in ("longest_document_tokens", "slots"):
            setattr(whole, most, max(getattr(whole, most), getattr(plan, most)))
        for names in ("assumed_statements", "unlisted_retrievers", "batches"):
            setattr(whole, names, list(dict.fromkeys((*getattr(whole, names), *getattr(plan, names)))))
        for named in ("max_statements", "unpriced", "missing_keys"):
            getattr(whole, named).update(getattr(plan, named))
        whole.dimensions |= {f"{run}: {name}" if run else name: e for name, e in plan.dimensions.items()}
    return whole


async def plan_pipeline(
    pipeline: Pipeline,
    *,
    run: RunDir | None = None,
    priced_samples: int = PRICED_SAMPLES,
    counted: DataResult | None = None,
    bound: bool = True,
) -> Plan:
    """The plan of a pipeline's sampling and scoring. Reads the data; calls no server and writes no file.

    Parameters
    ----------
    run: the run's directory, whose journal says what is paid already. It need not exist.
    priced_samples: how many samples to go through in full; the rest is scaled.
    counted: the counts of the data, where they are known: then it is read only as far as samples are gone through.
    bound: whether to reckon the upper bound of scoring, which takes most of the time.

    Raises what making the pipeline's components raises, and :class:`lrf.errors.RunError` for a journal or a cache that
    can't be read.
    """
    from lrf.planning.planner import Planner

    planner = Planner(pipeline, run, priced_samples, counted, bound=bound)
    try:
        await planner.walk()
        return planner.finish()
    finally:
        await planner.aclose()
