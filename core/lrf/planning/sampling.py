"""What stage *sample* will ask for, and candidates that stand in for those that it will write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

from lrf.build import prices_of, sampler_of
from lrf.config.prices import SAMPLING
from lrf.engine.sampler_calls import requests_of
from lrf.engine.worst_case import most_prompt_tokens
from lrf.prices import Price, amount
from lrf.prompting.templates import Template, prompt_text
from lrf.protocols import GenerationSettings, Sampler
from lrf.stages.reading import policy_prompt, prompt_template
from lrf.text.chunking import count_tokens
from lrf.types import Candidate, Sample

if TYPE_CHECKING:
    from lrf.config import Pipeline
    from lrf.config.model import SampleKeys
    from lrf.planning.plan import Estimate

CANDIDATE_TOKENS = 300
BYTES_A_TOKEN = 8
"""Assumed of the longest candidates: a judge may make more tokens of a text than the policy wrote."""

_SENTENCE = "In part {part} candidate {number} says what the document has on the question, with a figure and a name."


@dataclass(slots=True)
class PlanSampling:
    """Counts what is to be sampled. ``estimate`` is of all samples given so far."""

    sampler: Sampler
    keys: SampleKeys
    template: Template
    price: Price | None
    estimate: Estimate
    _money: int = 0
    _most_money: int = 0

    def missing(self, sample: Sample) -> int:
        """How many candidates the sample lacks."""
        return max(0, self.keys.n - len(sample.candidates))

    def add(self, sample: Sample) -> tuple[Sample, Sample]:
        """The sample with its candidates as they are expected, and as long as they can be. Counts tokens: slow."""
        missing = self.missing(sample)
        if missing:
            prompt, keys = policy_prompt(sample, self.template), self.keys
            self._count(
                GenerationSettings(prompt, (0,) * missing, keys.temperature, keys.top_p, keys.max_tokens, sample.tools)
            )
        sentences = ceil(self._expected_tokens / count_tokens(_SENTENCE))
        typical, longest = [], []
        for number in range(missing):
            text = " ".join(_SENTENCE.format(part=part, number=number) for part in range(sentences))
            typical.append(Candidate(f"sampled-{number}", text))
            longest.append(Candidate(f"sampled-{number}", f"{number}".ljust(BYTES_A_TOKEN * self.keys.max_tokens, "x")))
        given = sample.candidates
        return replace(sample, candidates=(*given, *typical)), replace(sample, candidates=(*given, *longest))

    @property
    def _expected_tokens(self) -> int:
        return min(self.keys.max_tokens, CANDIDATE_TOKENS)

    def _count(self, generation: GenerationSettings) -> None:
        estimate, wanted = self.estimate, len(generation.seeds)
        calls = ceil(wanted / self.sampler.per_call)
        asked = requests_of(generation, seeded=False)[0]
        prompt = count_tokens(prompt_text(asked.prompt))
        written = wanted * self._expected_tokens
        estimate.calls += wanted
        estimate.prompt_tokens += calls * prompt
        estimate.shared_tokens += (calls - 1) * prompt
        estimate.reply_tokens += written
        most_prompt = calls * most_prompt_tokens(asked)
        most_written = wanted * (generation.max_tokens + self.sampler.capabilities.reasoning_tokens)
        estimate.most_calls += wanted
        estimate.most_prompt_tokens += most_prompt
        estimate.most_reply_tokens += most_written
        if self.price is not None:
            shared = (calls - 1) * prompt if prompt >= self.price.cached_from else 0
            self._money += self.price.cost(calls * prompt, written, shared)
            self._most_money += self.price.most(most_prompt, most_written)
            estimate.price, estimate.most_price = amount(self._money), amount(self._most_money)


def plan_sampling(pipeline: Pipeline, estimate: Estimate) -> PlanSampling | None:
    """What counts for a pipeline; None where nothing is sampled."""
    if pipeline.sample is None:
        return None
    price = prices_of(pipeline).get(SAMPLING)
    return PlanSampling(sampler_of(pipeline), pipeline.sample.generation, prompt_template(pipeline), price, estimate)
