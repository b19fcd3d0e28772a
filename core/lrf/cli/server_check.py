"""One real call to each server of a pipeline: whether key and model are right, the window, and the speed."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrf.build import build
from lrf.cli.output import clean
from lrf.config import load_pipeline
from lrf.errors import JudgeError, LrfError
from lrf.http.settings import EndpointSettings
from lrf.plugin.catalog import load_catalog
from lrf.prompting.expectations import Text, Verdict, YesOrNo
from lrf.prompting.requests import Reply, ReplyMode, Request
from lrf.prompting.templates import Segment
from lrf.protocols import GenerationSettings
from lrf.text.redaction import redact
from lrf.types import Message

if TYPE_CHECKING:
    from lrf.config import Pipeline
    from lrf.config.model import ComponentBlock

QUESTION = "Write the numbers from one to ten in words, and nothing else."
DEADLINE_S = 120.0
_TOKENS = 64


@dataclass(slots=True)
class ServerCheck:
    """What one server answered.

    Attributes
    ----------
    server: its name in the pipeline: "judges.main".
    address, model: as the pipeline has them; ``served_model`` as the server reports it.
    key: the environment variable of the key, and whether it is set.
    context_window: the tokens that prompt and reply may have together, None if not known.
    seconds: from the call to the reply.
    tokens_per_second: of the reply, None where the server counts none.
    error: why there is no reply, None if there is one.
    skipped: why the server was not asked, None if it was.
    """

    server: str
    address: str | None = None
    model: str | None = None
    served_model: str | None = None
    key: str | None = None
    context_window: int | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    error: str | None = None
    skipped: str | None = None

    def sentence(self) -> str:
        """The check as a line for people."""
        where = f"{self.server} ({self.address or 'in this process'})"
        if self.skipped:
            return f"{where}: not asked ({self.skipped})"
        if self.error:
            return f"{where}: FAILED: {self.error}"
        window = f"window of {self.context_window:,} tokens" if self.context_window else "window not known"
        speed = f", {self.tokens_per_second:.0f} tokens/s" if self.tokens_per_second else ""
        model = self.served_model or self.model
        parts = [f"model {model}"] if model else []
        parts += [self.key or "no key", window] if self.address else []
        return f"{where}: works; {', '.join((*parts, f'{self.seconds:.2f} s{speed}'))}"


def check_servers(path: Path) -> list[ServerCheck]:
    """Ask each judge, embedder and sampler of a pipeline once, all at the same time. Blocks."""
    return asyncio.run(_check_all(load_pipeline(path, load_catalog())))


def show_servers(checks: list[ServerCheck]) -> None:
    """Print a line for each server."""
    for check in checks:
        click.echo(clean(check.sentence()))


def plain(checks: list[ServerCheck]) -> list[Mapping[str, Any]]:
    return [asdict(check) for check in checks]


async def _check_all(pipeline: Pipeline) -> list[ServerCheck]:
    judges = dict.fromkeys(name for block in pipeline.dimensions for name in block.judges)
    needed = (pipeline.retrievers[b.needs["retriever"]] for b in pipeline.dimensions if "retriever" in b.needs)
    embedders = dict.fromkeys(block.needs["embedder"] for block in needed if "embedder" in block.needs)
    checks = [_check(f"judges.{name}", pipeline.judges[name], _ask_judge) for name in judges]
    checks += [_check(f"embedders.{name}", pipeline.embedders[name], _ask_embedder) for name in embedders]
    checks += [_check("sample", pipeline.sample, _ask_sampler)] if pipeline.sample else []
    return list(await asyncio.gather(*checks))


async def _check(server: str, block: ComponentBlock, ask: Callable[[Any], Awaitable[Reply | None]]) -> ServerCheck:
    settings = block.settings
    check = ServerCheck(server, model=getattr(settings.model_reference, "name", None))
    if isinstance(settings, EndpointSettings):
        check.address, check.model, variable = settings.base_url, settings.model, settings.api_key_env
        if variable is None:
            check.key = "no key (`api_key_env: null`)"
        else:
            is_set = bool(os.environ.get(variable, "").strip())
            check.key = f"key from {variable}" if is_set else f"no key ({variable} is not set)"
    elif block.spec.own_process:
        check.skipped = "it loads its model in this machine's memory"
        return check
    component = None
    try:
        component = build(block)
        if getattr(component, "capabilities", None) is not None and not component.capabilities.steady:
            check.skipped = "a batch API answers hours later"
        else:
            await _time(check, component, ask)
    except TimeoutError:
        check.error = f"no reply within {DEADLINE_S:g} s"
    except Exception as error:  # a plugin's own fault, too
        known = isinstance(error, LrfError)
        check.error = redact(str(error) if known else f"{type(error).__name__}: {error}")
    finally:
        if component is not None:
            await component.aclose()
    return check


async def _time(check: ServerCheck, component: Any, ask: Callable[[Any], Awaitable[Reply | None]]) -> None:
    began = time.monotonic()
    async with asyncio.timeout(DEADLINE_S):
        reply = await ask(component)
    check.seconds = round(time.monotonic() - began, 3)
    if reply is None:
        return
    if reply.finish == "error":
        raise JudgeError("the server broke the reply off")
    check.served_model = reply.model
    check.context_window = component.capabilities.context_window
    if reply.usage.completion_tokens and check.seconds:
        check.tokens_per_second = round(reply.usage.completion_tokens / check.seconds, 1)


async def _ask_judge(judge: Any) -> Reply:
    kinds = judge.capabilities.kinds
    if kinds is not None and "yes_or_no" in kinds:
        return await _ask_to_decide(judge)
    if kinds is not None and "verdict" in kinds:
        return await _ask_for_a_verdict(judge)
    expects = Text() if kinds is None else Text(kinds[0])
    reply: Reply = await judge.complete(Request((Segment(QUESTION, trusted=True),), expects, _TOKENS, 0.01))
    return reply


async def _ask_for_a_verdict(judge: Any) -> Reply:
    """The reply of a judge that only gives verdicts, which reads a prompt's fields."""
    prompt = tuple(Segment("The sky is blue.", trusted=False, name=field) for field in ("context", "statement"))
    mode: ReplyMode = "logprobs" if judge.capabilities.probabilities else "text"
    reply: Reply = await judge.complete(Request(prompt, Verdict({"yes": 1.0, "no": 0.0}), _TOKENS, 0.01, mode))
    return reply


async def _ask_to_decide(judge: Any) -> Reply:
    """The reply of a judge that decides. Raises :class:`lrf.errors.ParseError` for one without probabilities."""
    prompt = (Segment("The sky is blue.", trusted=True), Segment("The sky is blue?", trusted=True))
    asked = Request(prompt, YesOrNo(), _TOKENS, 0.0, "logprobs", material=1)
    reply: Reply = await judge.complete(asked)
    asked.expects.read(reply, "logprobs")
    return reply


async def _ask_sampler(sampler: Any) -> Reply:
    messages = (Message("user", QUESTION),)
    replies = await sampler.sample(GenerationSettings(messages, (1,), 1.0, 1.0, _TOKENS))
    reply: Reply = replies[0]
    return reply


async def _ask_embedder(embedder: Any) -> None:
    vectors = await embedder.embed([QUESTION], "query")
    if len(vectors) != 1:
        raise JudgeError(f"it gave {len(vectors)} vectors for one text")
