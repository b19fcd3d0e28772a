"""What stage *sample* will ask for, and candidates that stand in for those that it will write."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil
from typing import TYPE_CHECKING

from lrf.build import prices_of, sampler_of
from lrf.config.prices import SAMPLING
from lrf.engine.sampler_calls import most_tokens, requests_of
from lrf.planning.expected import ExpectedCounts
from lrf.planning.upper_bound import UpperBound
from lrf.prices import Price
from lrf.prompting.requests import Reply, Request
from lrf.prompting.templates import Template, prompt_text
from lrf.protocols import Sampler
from lrf.stages.reading import missing_candidates, prompt_template
from lrf.stages.sample.rows import row_of
from lrf.store.journal import identity_text, request_key
from lrf.store.kept import KeptReplies
from lrf.text.chunking import count_tokens
from lrf.types import Candidate, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrf.config import Pipeline
    from lrf.config.model import SampleKeys

CANDIDATE_TOKENS = 300
BYTES_A_TOKEN = 8
"""Assumed of the longest candidates: a judge may make more tokens of a text than the policy wrote."""

_SENTENCE = "In part {part} candidate {number} says what the document has on the question, with a figure and a name."


@dataclass(slots=True)
class SamplingPlan:
    """Counts the candidates that are to be sampled, of all samples given so far."""

    pipeline: Pipeline
    sampler: Sampler
    keys: SampleKeys
    template: Template
    price: Price | None
    kept: KeptReplies
    counts: ExpectedCounts = field(default_factory=ExpectedCounts)
    upper_bound: UpperBound = field(default_factory=UpperBound)

    def missing(self, sample: Sample) -> int:
        """How many candidates the sample lacks."""
        return max(0, self.keys.n - len(sample.candidates))

    def add(self, sample: Sample) -> tuple[Sample, Sample]:
        """The sample with its candidates as they are kept or expected, and as long as they can be. Blocks."""
        generation = missing_candidates(self.pipeline, sample, self.template)
        requests = requests_of(generation, seeded=self.sampler.capabilities.seed)
        if not requests:
            return sample, sample
        identity = identity_text(self.sampler.identity)
        kept = [self.kept.reply(request_key(identity, request)) for request in requests]
        self._count(requests, [reply for reply in kept if reply is not None])
        self._bound(requests)
        replies = [reply or self._expected(number) for number, reply in enumerate(kept)]
        row = row_of(sample, replies, None, SAMPLING, self.keys)
        longest = [
            Candidate(f"sampled-{number}", f"{number}".ljust(BYTES_A_TOKEN * self.keys.max_tokens, "x"))
            for number in range(len(requests))
        ]
        return (
            replace(sample, candidates=tuple(Candidate(**candidate) for candidate in row["candidates"])),
            replace(sample, candidates=(*sample.candidates, *longest)),
        )

    @property
    def _expected_tokens(self) -> int:
        return min(self.keys.max_tokens, CANDIDATE_TOKENS)

    def _expected(self, number: int) -> Reply:
        return Reply(expected_answer(number, self._expected_tokens))

    def _count(self, requests: Sequence[Request], kept: Sequence[Reply]) -> None:
        counts, left = self.counts, len(requests) - len(kept)
        calls = ceil(left / self.sampler.per_call)
        prompt = count_tokens(prompt_text(requests[0].prompt))
        read, shared, written = calls * prompt, max(0, calls - 1) * prompt, left * self._expected_tokens
        counts.calls += len(requests)
        counts.kept += len(kept)
        counts.prompt_tokens += read + sum(reply.usage.prompt_tokens for reply in kept)
        counts.shared_tokens += shared
        counts.reply_tokens += written + sum(reply.usage.completion_tokens for reply in kept)
        if self.price is None:
            counts.unpriced = True
            return
        left_money = self.price.cost(read, written, shared if prompt >= self.price.cached_from else 0)
        counts.left_money += left_money
        counts.money += left_money + sum(
            self.price.cost(u.prompt_tokens, u.completion_tokens, u.cached_tokens, u.written_tokens)
            for u in (reply.usage for reply in kept)
        )

    def _bound(self, requests: Sequence[Request]) -> None:
        prompt, written = most_tokens(self.sampler, requests)
        prompts = ceil(len(requests) / self.sampler.per_call) * prompt
        bound = self.upper_bound
        bound.calls += len(requests)
        bound.prompt_tokens += prompts
        bound.reply_tokens += written
        bound.money += self.price.most(prompts, written) if self.price else 0


def expected_answer(number: int, tokens: int) -> str:
    """An answer of about this many tokens, whose sentences differ for each number."""
    sentences = ceil(tokens / count_tokens(_SENTENCE))
    return " ".join(_SENTENCE.format(part=part, number=number) for part in range(sentences))


def plan_sampling(pipeline: Pipeline, kept: KeptReplies) -> SamplingPlan | None:
    """The plan of a pipeline's sampling; None for a pipeline that samples nothing."""
    if pipeline.sample is None:
        return None
    price = prices_of(pipeline).get(SAMPLING)
    template = prompt_template(pipeline)
    return SamplingPlan(pipeline, sampler_of(pipeline), pipeline.sample.generation, template, price, kept)
