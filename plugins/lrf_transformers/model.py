"""The judge's model: prompts, generation and probabilities of options, in batches. Runs in one thread."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor

from lrf.errors import ContextTooSmallError, JudgeError, RejectedError
from lrf.local_models import Encoder
from lrf.prompting.labels import analysis_before_mark
from lrf.prompting.requests import FinishReason, Reply, Request, Usage
from lrf.prompting.templates import prompt_text
from lrf_transformers.batch import TokenBatch, check_batching, nonfinite_logits
from lrf_transformers.kv_cache import Prefix, PrefixCache, common_prefix
from lrf_transformers.options import option_probabilities, token_tree
from lrf_transformers.reply_format import ReplyFormat, reply_format, whole_sentences
from lrf_transformers.settings import TransformersSettings
from lrf_transformers.weights import Loaded, load

_GREEDY_BELOW = 0.05  # the method's temperature of 0.01 amounts to greedy decoding
_WORTH_SHARING = 32  # tokens
_WORTH_ALONE = 128  # tokens
_TRIES = 64  # tokens that a reply format may refuse in a row


@dataclass(slots=True)
class RequestState:
    """A request with its prompt's tokens and what has been generated.

    ``number`` is its index among the requests; ``options`` are the tokens of cue and option, for each option;
    ``cached`` is how many tokens of ``prefix`` are used.
    """

    number: int
    request: Request
    format: ReplyFormat
    tokens: list[int]
    options: list[list[int]]
    prefix: Prefix | None = None
    cached: int = 0
    ids: list[int] = field(default_factory=list)
    end: int | None = None
    closed: bool = False
    broken: bool = False

    @property
    def room(self) -> int:
        """FixedCacheLayer it can need after its prompt."""
        return self.format.limit + sum(map(len, self.options)) + len(self.options) + 1

    @property
    def open(self) -> bool:
        return not self.closed and not self.broken and self.end is None and len(self.ids) < self.format.limit


class JudgeModel:
    """The loaded model of the judge."""

    def __init__(self, settings: TransformersSettings, loaded: Loaded | None = None) -> None:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self._settings = settings
        self._loaded = loaded or load(settings)
        check_batching(self._loaded)
        self._encoder = Encoder(self._loaded.tokenizer)
        self._prefixes = PrefixCache(settings.prefix_cache_tokens)
        self._ends = _end_tokens(self._loaded)

    @torch.inference_mode()
    def answer(
        self, requests: Sequence[Request], wanted: Callable[[int], bool] = lambda number: True
    ) -> list[Reply | Exception]:
        """A reply or an error for each request.

        ``wanted(number)`` is called between steps; a batch of which no reply is wanted any more is abandoned.
        """
        results: dict[int, Reply | Exception] = {}
        rows = []
        for number, request in enumerate(requests):
            try:
                rows.append(self._row(number, request))
            except JudgeError as error:
                results[number] = error
        self._share(rows)
        for batch in self._batches(rows):
            results.update(self._run(batch, wanted))
        return [results[number] for number in range(len(requests))]

    def _row(self, number: int, request: Request) -> RequestState:
        form = reply_format(request, self._settings, self._encoder.chat)
        text = prompt_text(request.prompt)
        tokens = self._encoder.prompt(text, form.seed if not form.seed or text.endswith("\n") else f"\n{form.seed}")
        if not tokens:
            raise RejectedError("the prompt is empty")
        options = [] if form.cue is None else [self._encoder.continuation("\n" + form.cue + o) for o in request.options]
        longest, limit = form.limit + max(map(len, options), default=0), self._loaded.context_tokens
        if len(tokens) + longest > limit:
            raise ContextTooSmallError(
                f"the prompt has {len(tokens)} tokens and the reply may have {longest}; "
                f"the model takes {limit} together"
            )
        return RequestState(number, request, form, tokens, options)

    # --- which rows are computed together, and what they share ---------------------------------------------------

    def _share(self, rows: Sequence[RequestState]) -> None:
        """Give each row the longest known prefix, after computing those that several rows have in common.

        The rows keep theirs even when the cache has dropped it for that of others, up to the tokens of a batch.
        """
        capacity, room = self._settings.prefix_cache_tokens, self._settings.batch_tokens
        for a, b in pairwise(sorted(rows, key=lambda row: row.tokens)):
            common = min(common_prefix(a.tokens, b.tokens), len(a.tokens) - 1, len(b.tokens) - 1)
            n = min(common, capacity)
            prefix, known = max(self._prefixes.longest(a.tokens), (a.prefix, a.cached), key=lambda found: found[1])
            if n - known >= _WORTH_SHARING:
                tokens = a.tokens[:n]
                try:
                    prefix = TokenBatch(self._loaded, [tokens], [(prefix, known)], 0).prefix(0, tokens)
                    self._prefixes.keep(prefix)
                except torch.OutOfMemoryError:
                    break  # share nothing more; rows too long by themselves fail later
                if n <= room:
                    a.prefix, a.cached, room = prefix, n, room - n
            if min(a.cached, common) > b.cached:
                b.prefix, b.cached = a.prefix, min(a.cached, common)
        for row in rows:
            prefix, known = self._prefixes.longest(row.tokens)
            if known > row.cached:
                row.prefix, row.cached = prefix, known

    def _batches(self, rows: Sequence[RequestState]) -> list[list[RequestState]]:
        """Batches of rows of similar limit and length, within the settings' limits."""
        batches: list[list[RequestState]] = []
        widest = 0
        for row in sorted(rows, key=lambda row: (-row.format.limit, len(row.tokens) - row.cached)):
            width = len(row.tokens) + row.room
            widest = max(widest, width)
            full = not batches or len(batches[-1]) == self._settings.max_batch
            if full or widest * (len(batches[-1]) + 1) > self._settings.batch_tokens:
                batches.append([])
                widest = width
            batches[-1].append(row)
        return batches

    # --- one batch -----------------------------------------------------------------------------------------------

    def _run(self, rows: Sequence[RequestState], wanted: Callable[[int], bool]) -> dict[int, Reply | Exception]:
        prompts = [row.tokens for row in rows]
        try:
            batch = TokenBatch(self._loaded, prompts, self._evened(rows), max(row.room for row in rows))
            if len(rows) == 1 and len(rows[0].tokens) - rows[0].cached >= _WORTH_SHARING:
                self._prefixes.keep(batch.prefix(0, rows[0].tokens))
            self._generate(batch, rows, wanted)
            return {row.number: reply for row, reply in zip(rows, self._replies(batch, rows), strict=True)}
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                n = len(rows[0].tokens)
                return {rows[0].number: RejectedError(f"a prompt of {n} tokens doesn't fit the GPU's memory")}
        half = len(rows) // 2
        fresh = [replace(row, ids=[], end=None, closed=False, broken=False) for row in rows]
        return self._run(fresh[:half], wanted) | self._run(fresh[half:], wanted)

    def _evened(self, rows: Sequence[RequestState]) -> list[tuple[Prefix | None, int]]:
        """The prefix of each row. What a row has to compute beyond the shortest is computed alone, not as padding."""
        shortest = min(len(row.tokens) - row.cached for row in rows)
        prefixes = []
        for row in rows:
            prefix, n = row.prefix, len(row.tokens) - shortest
            if n - row.cached >= _WORTH_ALONE:
                tokens = row.tokens[:n]
                prefix = TokenBatch(self._loaded, [tokens], [(prefix, row.cached)], 0).prefix(0, tokens)
            prefixes.append((prefix, n if n - row.cached >= _WORTH_ALONE else row.cached))
        return prefixes

    def _generate(self, batch: TokenBatch, rows: Sequence[RequestState], wanted: Callable[[int], bool]) -> None:
        """Append a token at a time to each row until it ends, or no reply of the batch is wanted."""
        generators = [_generator(row.request) for row in rows]
        logits = batch.logits  # (rows, vocabulary)
        while any(row.open for row in rows) and any(wanted(row.number) for row in rows):
            unusable = (~logits.amax(-1).isfinite()).tolist()
            tokens = torch.zeros(len(rows), 1, dtype=torch.long)
            real = torch.zeros(len(rows), 1, dtype=torch.bool)
            for i, row in enumerate(rows):
                if not row.open:
                    continue
                if unusable[i]:
                    row.broken = True
                    continue
                token = self._next(row, logits[i], generators[i])
                if token in self._ends:
                    row.closed = True
                    continue
                row.ids.append(token)
                row.end = row.format.end(self._encoder.text(row.ids))
                tokens[i, 0], real[i, 0] = token, True
            if any(row.open for row in rows):
                logits = batch.feed(tokens.to(logits.device), real.to(logits.device))[:, -1]

    def _next(self, row: RequestState, logits: Tensor, generator: torch.Generator | None) -> int:
        """The likeliest or a sampled token that the reply format allows. Changes ``logits``."""
        for _ in range(_TRIES):
            token = int(logits.argmax()) if generator is None else _sampled(logits, row.request.temperature, generator)
            ended = token in self._ends
            if not row.format.refuses(self._encoder.text(row.ids if ended else [*row.ids, token]), ended):
                break
            logits[token] = -torch.inf
        return token

    def _replies(self, batch: TokenBatch, rows: Sequence[RequestState]) -> list[Reply | Exception]:
        if not any(row.options for row in rows):
            return [self._written(row) for row in rows]
        analyses = [self._analysis(row) if row.options else row.ids for row in rows]
        before = [self._before_options(row, kept) for row, kept in zip(rows, analyses, strict=True)]
        trees = []
        for i, (row, kept, lead) in enumerate(zip(rows, analyses, before, strict=True)):
            batch.forget(i, min(batch.prompt_end - 1 + len(kept), batch.filled))  # the tree's root comes again
            options = [self._encoder.continuation(lead + o) for o in row.request.options if row.options]
            trees.append(token_tree((kept or row.tokens)[-1], options))
        by_row = option_probabilities(batch, trees)
        return [
            self._rated(row, kept, lead, p) if row.options else self._written(row)
            for row, kept, lead, p in zip(rows, analyses, before, by_row, strict=True)
        ]

    def _analysis(self, row: RequestState) -> list[int]:
        """The tokens of the analysis up to its end, its mark, or its last whole sentence."""
        text = self._encoder.text(row.ids)
        kept = text[: row.end] if row.closed or row.end is not None else whole_sentences(text)
        kept = analysis_before_mark(kept, row.format.cue or "")
        n = len(row.ids)
        while n and len(self._encoder.text(row.ids[:n]).strip()) > len(kept.strip()):
            n -= 1
        return row.ids[:n]

    def _before_options(self, row: RequestState, analysis: list[int]) -> str:
        """The text between prompt or analysis and an option."""
        begins_line = not analysis and (self._encoder.chat or prompt_text(row.request.prompt).endswith("\n"))
        return ("" if begins_line else "\n") + (row.format.cue or "")

    def _rated(self, row: RequestState, analysis: list[int], lead: str, probabilities: Tensor) -> Reply | Exception:
        if row.broken or probabilities.isnan().any():
            return nonfinite_logits()
        by_option = dict(zip(row.request.options, probabilities.tolist(), strict=True))
        best = max(by_option, key=lambda option: by_option[option])
        text = f"{self._encoder.text(analysis).strip()}{lead}{best}".lstrip()
        return self._reply(row, text, "stop", by_option)

    def _written(self, row: RequestState) -> Reply | Exception:
        if row.broken:
            return nonfinite_logits()
        text = self._encoder.text(row.ids)[: row.end]
        return self._reply(row, *row.format.finish(text, row.closed or row.end is not None))

    def _reply(
        self, row: RequestState, text: str, finish: FinishReason, probabilities: Mapping[str, float] | None = None
    ) -> Reply:
        usage = Usage(len(row.tokens), len(row.ids), row.cached)
        return Reply(text, finish, usage, probabilities, model=self._settings.model)


def _end_tokens(loaded: Loaded) -> frozenset[int]:
    named = loaded.model.generation_config.eos_token_id
    ends = named if isinstance(named, list) else [named]
    return frozenset(e for e in [*ends, loaded.tokenizer.eos_token_id] if e is not None)


def _generator(request: Request) -> torch.Generator | None:
    """The random generator of a request; None for greedy decoding."""
    if request.temperature < _GREEDY_BELOW:
        return None
    generator = torch.Generator()
    if request.seed is None:
        generator.seed()
    else:
        name = f"{request.seed}/{request.attempt}/{request.repeat}"
        generator.manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:7]))
    return generator


def _sampled(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    p = (logits.float().cpu() / temperature).softmax(-1)
    return int(torch.multinomial(p, 1, generator=generator))
