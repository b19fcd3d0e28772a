"""From drawings to candidates, in batches. Runs in one thread."""

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
    """One candidate on its way. ``place`` is (its generation, its seed's place)."""

    place: tuple[int, int]
    generation: GenerationSettings
    seed: int
    tokens: list[int]

    @property
    def how(self) -> tuple[float, float]:
        """How its tokens are drawn."""
        return self.generation.temperature, self.generation.top_p

    @property
    def width(self) -> int:
        return len(self.tokens) + self.generation.max_tokens


class PolicyModel:
    """The loaded policy. ``generate`` is its only entry."""

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
        """The candidates of each generation, or the error that kept them away."""
        failed: dict[int, Exception] = {}
        rows: list[CandidateState] = []
        for number, generation in enumerate(generations):
            try:
                tokens = self._prompt(generation)
            except JudgeError as e:
                failed[number] = e
                continue
            rows += [CandidateState((number, i), generation, seed, tokens) for i, seed in enumerate(generation.seeds)]
        replies: dict[tuple[int, int], Reply | Exception] = {}
        for batch in self._batches(rows):
            replies.update(self._run(batch))
        outcomes: list[Sequence[Reply] | Exception] = []
        for number, generation in enumerate(generations):
            found = [replies[number, i] for i in range(len(generation.seeds))] if number not in failed else []
            error = failed.get(number) or next((r for r in found if isinstance(r, Exception)), None)
            outcomes.append(error or [r for r in found if isinstance(r, Reply)])
        return outcomes

    def _prompt(self, generation: GenerationSettings) -> list[int]:
        """Token ids of the prompt. Raises a :class:`lrf.errors.JudgeError` where it can't be made or doesn't fit."""
        tokens = self._encoder.messages(generation.messages, generation.tools)
        most = self._loaded.context_tokens
        if len(tokens) + generation.max_tokens > most:
            raise ContextTooSmallError(
                f"the prompt has {len(tokens)} tokens and a candidate may have {generation.max_tokens}; the model takes "
                f"{most} together"
            )
        return tokens

    def _batches(self, rows: Sequence[CandidateState]) -> list[list[CandidateState]]:
        """Rows of like length together, within the settings' bounds."""
        batches: list[list[CandidateState]] = []
        for row in sorted(rows, key=lambda row: (row.how, row.width, row.place)):  # a batch's last row is its widest
            full = not batches or len(batches[-1]) == self._settings.max_batch or batches[-1][0].how != row.how
            if full or row.width * (len(batches[-1]) + 1) > self._settings.batch_tokens:
                batches.append([])
            batches[-1].append(row)
        return batches

    def _run(self, rows: Sequence[CandidateState]) -> dict[tuple[int, int], Reply | Exception]:
        try:
            return dict(zip([row.place for row in rows], self._generate(rows), strict=True))
        except BadReplyError as error:
            return {row.place: error for row in rows}
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                return {rows[0].place: RejectedError(f"a prompt of {len(rows[0].tokens)} tokens doesn't fit the GPU")}
        half = len(rows) // 2
        return {**self._run(rows[:half]), **self._run(rows[half:])}

    def _generate(self, rows: Sequence[CandidateState]) -> list[Reply]:
        device, room = self._loaded.device, max(row.generation.max_tokens for row in rows)
        batch = TokenBatch(self._loaded, [r.tokens for r in rows], self._beginnings(rows), room)
        limits = torch.tensor([r.generation.max_tokens for r in rows], device=device)
        draws = torch.stack([_uniform(r.seed, room) for r in rows]).to(device)  # (rows, room)
        ids = torch.zeros(len(rows), room, dtype=torch.long, device=device)
        lengths = torch.zeros(len(rows), dtype=torch.long, device=device)
        ended = torch.zeros(len(rows), dtype=torch.bool, device=device)
        logits = batch.logits  # (rows, vocabulary)
        for step in range(room):
            if not logits[~ended].amax(-1).isfinite().all():
                raise nonfinite_logits()
            token = _pick(logits, draws[:, step], *rows[0].how)  # (rows,)
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
                Usage(0 if row.place[1] else len(row.tokens), n),
                model=self._settings.model,
            )
            for row, text, stopped, n in zip(rows, texts, ended.tolist(), lengths.tolist(), strict=True)
        ]

    def _beginnings(self, rows: Sequence[CandidateState]) -> list[tuple[Prefix | None, int]]:
        """For each row what is computed of its prompt: a prompt of several rows once, all but its last token."""
        found: dict[int, Prefix] = {}
        for row in rows:
            number = row.place[0]
            if number in found or sum(r.place[0] == number for r in rows) == 1 or len(row.tokens) < 2:
                continue
            found[number] = TokenBatch(self._loaded, [row.tokens], [(None, 0)], 0).beginning(0, row.tokens)
        return [(found.get(r.place[0]), len(r.tokens) - 1 if r.place[0] in found else 0) for r in rows]


def _uniform(seed: int, count: int) -> Tensor:
    """Numbers from 0 to 1 that follow from the seed alone: a candidate's draws don't depend on its batch."""
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _pick(logits: Tensor, draws: Tensor, temperature: float, top_p: float) -> Tensor:
    """The next token of each row, (rows,): where its draw falls among the probabilities in the vocabulary's order."""
    if temperature == 0:
        return logits.argmax(-1)
    p = (logits.double() / temperature).softmax(-1)
    if top_p < 1:
        ranked, order = p.sort(-1, descending=True)
        ranked[ranked.cumsum(-1) - ranked >= top_p] = 0
        p = torch.zeros_like(p).scatter(-1, order, ranked)
    cumulated = p.cumsum(-1)
    wanted = draws[:, None] * cumulated[:, -1:]
    return torch.searchsorted(cumulated, wanted, right=True).clamp(max=p.shape[-1] - 1)[:, 0]
