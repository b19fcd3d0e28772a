"""The sampler's model: generates candidates in batches. Runs in one thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lrf.errors import BadReplyError, ContextTooSmallError, JudgeError, RejectedError
from lrf.local_models import Encoder
from lrf.prompting.requests import Reply, Usage
from lrf.protocols import GenerationSettings
from lrf_transformers.batch import TokenBatch, check_batching, nonfinite_logits
from lrf_transformers.kv_cache import Prefix
from lrf_transformers.sampler_settings import TransformersSamplerSettings
from lrf_transformers.weights import load


@dataclass(slots=True)
class CandidateState:
    """A candidate to generate. ``key`` is (index of its generation, index of its seed)."""

    key: tuple[int, int]
    generation: GenerationSettings
    seed: int
    tokens: list[int]

    @property
    def sampling(self) -> tuple[float, float]:
        """Temperature and top-p."""
        return self.generation.temperature, self.generation.top_p

    @property
    def width(self) -> int:
        return len(self.tokens) + self.generation.max_tokens


class PolicyModel:
    """The loaded policy."""

    def __init__(self, settings: TransformersSamplerSettings) -> None:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self._settings = settings
        self._loaded = load(settings)
        check_batching(self._loaded)
        self._encoder = Encoder(self._loaded.tokenizer)
        named = self._loaded.model.generation_config.eos_token_id
        ends = [*(named if isinstance(named, list) else [named]), self._loaded.tokenizer.eos_token_id]
        self._ends = torch.tensor(sorted({e for e in ends if e is not None}), device=self._loaded.device)

    @torch.inference_mode()
    def generate(self, generations: Sequence[GenerationSettings]) -> list[Sequence[Reply] | Exception]:
        """The candidates of each generation, or the error that prevented them."""
        failed: dict[int, Exception] = {}
        rows: list[CandidateState] = []
        for number, generation in enumerate(generations):
            try:
                tokens = self._prompt(generation)
            except JudgeError as error:
                failed[number] = error
                continue
            rows += [CandidateState((number, i), generation, seed, tokens) for i, seed in enumerate(generation.seeds)]
        replies: dict[tuple[int, int], Reply | Exception] = {}
        for batch in self._batches(rows):
            replies.update(self._run(batch))
        outcomes: list[Sequence[Reply] | Exception] = []
        for number, generation in enumerate(generations):
            candidates = [] if number in failed else [replies[number, i] for i in range(len(generation.seeds))]
            failure = failed.get(number) or next((c for c in candidates if isinstance(c, Exception)), None)
            outcomes.append(failure or [c for c in candidates if isinstance(c, Reply)])
        return outcomes

    def _prompt(self, generation: GenerationSettings) -> list[int]:
        """Token ids of the prompt. Raises a :class:`lrf.errors.JudgeError` if it can't be rendered or doesn't fit."""
        tokens = self._encoder.messages(generation.messages, generation.tools)
        limit = self._loaded.context_tokens
        if len(tokens) + generation.max_tokens > limit:
            raise ContextTooSmallError(
                f"the prompt has {len(tokens)} tokens and a candidate may have {generation.max_tokens}; the model "
                f"takes {limit} together"
            )
        return tokens

    def _batches(self, rows: Sequence[CandidateState]) -> list[list[CandidateState]]:
        """Batches of rows of similar length, within the settings' limits."""
        batches: list[list[CandidateState]] = []
        for row in sorted(rows, key=lambda row: (row.sampling, row.width, row.key)):  # a batch's last row is its widest
            last = batches[-1] if batches else []
            full = not last or len(last) == self._settings.max_batch or last[0].sampling != row.sampling
            if full or row.width * (len(batches[-1]) + 1) > self._settings.batch_tokens:
                batches.append([])
            batches[-1].append(row)
        return batches

    def _run(self, rows: Sequence[CandidateState]) -> dict[tuple[int, int], Reply | Exception]:
        try:
            return dict(zip([row.key for row in rows], self._generate(rows), strict=True))
        except BadReplyError as error:
            return {row.key: error for row in rows}
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                return {rows[0].key: RejectedError(f"a prompt of {len(rows[0].tokens)} tokens doesn't fit the GPU")}
        half = len(rows) // 2
        return {**self._run(rows[:half]), **self._run(rows[half:])}

    def _generate(self, rows: Sequence[CandidateState]) -> list[Reply]:
        device, room = self._loaded.device, max(row.generation.max_tokens for row in rows)
        batch = TokenBatch(self._loaded, [r.tokens for r in rows], self._prefixes(rows), room)
        limits = torch.tensor([r.generation.max_tokens for r in rows], device=device)
        draws = torch.stack([uniform_draws(r.seed, room) for r in rows]).to(device)  # (rows, room)
        ids = torch.zeros(len(rows), room, dtype=torch.long, device=device)
        lengths = torch.zeros(len(rows), dtype=torch.long, device=device)
        ended = torch.zeros(len(rows), dtype=torch.bool, device=device)
        logits = batch.logits  # (rows, vocabulary)
        for step in range(room):
            if not logits[~ended].amax(-1).isfinite().all():
                raise nonfinite_logits()
            token = next_tokens(logits, draws[:, step], *rows[0].sampling)  # (rows,)
            ended |= torch.isin(token, self._ends)
            writes = ~ended & (lengths < limits)
            ids[writes, step], lengths = token[writes], lengths + writes
            going = writes & (lengths < limits)
            if not going.any():
                break
            logits = batch.feed(token[:, None], going[:, None])[:, -1]
        texts = [self._encoder.text(ids[i, :n].tolist()) for i, n in enumerate(lengths.tolist())]
        return [
            Reply(
                text,
                "stop" if stopped else "length",
                Usage(0 if row.key[1] else len(row.tokens), n),
                model=self._settings.model,
            )
            for row, text, stopped, n in zip(rows, texts, ended.tolist(), lengths.tolist(), strict=True)
        ]

    def _prefixes(self, rows: Sequence[CandidateState]) -> list[tuple[Prefix | None, int]]:
        """For each row its prompt's prefix, if several rows have this prompt: all but its last token, computed once."""
        prefixes: dict[int, Prefix] = {}
        for row in rows:
            number = row.key[0]
            if number in prefixes or sum(r.key[0] == number for r in rows) == 1 or len(row.tokens) < 2:
                continue
            prefixes[number] = TokenBatch(self._loaded, [row.tokens], [(None, 0)], 0).prefix(0, row.tokens)
        return [(prefixes.get(r.key[0]), len(r.tokens) - 1 if r.key[0] in prefixes else 0) for r in rows]


def uniform_draws(seed: int, count: int) -> Tensor:
    """Uniform random numbers in [0, 1), (count,), from the seed alone: they don't depend on the batch."""
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def next_tokens(logits: Tensor, draws: Tensor, temperature: float, top_p: float) -> Tensor:
    """The next token of each row, (rows,), by inverse transform sampling with one uniform draw for each row.

    ``logits`` is (rows, vocabulary); temperature 0 takes the likeliest token; ``top_p`` is nucleus sampling
    (arXiv 1904.09751).
    """
    if temperature == 0:
        return logits.argmax(-1)
    p = (logits.double() / temperature).softmax(-1)
    if top_p < 1:
        ranked, order = p.sort(-1, descending=True)
        ranked[ranked.cumsum(-1) - ranked >= top_p] = 0
        p = torch.zeros_like(p).scatter(-1, order, ranked)
    cumulative = p.cumsum(-1)
    wanted = draws[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, wanted, right=True).clamp(max=p.shape[-1] - 1)[:, 0]
