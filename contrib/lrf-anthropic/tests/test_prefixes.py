"""The prompt cache: what comes again is written once and read afterwards, and nothing else is marked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from lrf_anthropic.judge import AnthropicJudge
from lrf_anthropic.prefixes import KNOWN, LIVES_S, Prefixes
from lrf_anthropic.settings import AnthropicJudgeSettings

from lrf import Rating, Request, Segment
from lrf.prompting.templates import Prompt, prompt_text


def prompt(answer: str, document: str = "A long document.", instructions: str = "Rate the answer.\n") -> Prompt:
    return (
        Segment(instructions),
        Segment(document, trusted=False),
        Segment("\n[Answer]\n"),
        Segment(answer, trusted=False),
        Segment("\n[Rating]"),
    )


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def marks(prefixes: Prefixes, asked: Prompt) -> tuple[int, bool] | None:
    """(characters up to the mark, whether it writes) of a prompt that is sent and answered."""
    mark = prefixes.mark(asked)
    if mark is None:
        return None
    prefixes.sent(mark, succeeded=True)
    assert "".join(mark.texts) + mark.rest == prompt_text(asked)
    return len("".join(mark.texts)), mark.writes


WHOLE = len("Rate the answer.\nA long document.\n[Answer]\n")
INSTRUCTIONS = len("Rate the answer.\n")


def test_a_beginning_is_written_when_it_comes_again_and_read_from_then_on() -> None:
    prefixes = Prefixes()
    found = [marks(prefixes, prompt(f"answer {n}")) for n in range(4)]
    assert found == [None, (WHOLE, True), (WHOLE, False), (WHOLE, False)]


def test_instructions_that_come_with_another_document_are_written_and_read_too() -> None:
    prefixes = Prefixes()
    found = [marks(prefixes, prompt("a", document=f"Document {n}.")) for n in range(4)]
    assert found == [None, (INSTRUCTIONS, True), (INSTRUCTIONS, False), (INSTRUCTIONS, False)]


def test_one_request_at_a_time_writes_and_the_others_go_unmarked() -> None:
    prefixes = Prefixes()
    assert prefixes.mark(prompt("first")) is None
    writer = prefixes.mark(prompt("second"))
    assert writer is not None
    beside = prefixes.mark(prompt("third"))
    assert beside is None or beside.texts != writer.texts
    prefixes.sent(writer, succeeded=True)
    assert marks(prefixes, prompt("fourth")) == (WHOLE, False)


def test_a_write_that_failed_is_tried_by_the_next() -> None:
    prefixes = Prefixes()
    prefixes.mark(prompt("first"))
    writer = prefixes.mark(prompt("second"))
    assert writer is not None
    prefixes.sent(writer, succeeded=False)
    assert marks(prefixes, prompt("third")) == (WHOLE, True)


def test_what_was_not_used_for_five_minutes_is_written_again() -> None:
    clock = Clock()
    prefixes = Prefixes(clock)
    for number in range(3):
        marks(prefixes, prompt(f"answer {number}"))
        clock.now += LIVES_S - 1  # each use keeps it alive
    clock.now += 2
    assert marks(prefixes, prompt("late")) == (WHOLE, True)


def test_a_prompt_of_one_piece_has_no_beginning() -> None:
    prefixes = Prefixes()
    assert [marks(prefixes, (Segment("all of it", trusted=False),)) for _ in range(3)] == [None] * 3
    assert [marks(prefixes, (Segment("all of it"),)) for _ in range(3)] == [None] * 3


def test_no_block_is_blank() -> None:
    prefixes = Prefixes()
    spaced = (Segment("\n "), Segment("Rate.", trusted=False), Segment("\n\n"), Segment("x", trusted=False))
    prefixes.mark(spaced)
    mark = prefixes.mark(spaced)
    assert mark is not None
    assert all(text.strip() for text in (*mark.texts, mark.rest))


def test_no_more_beginnings_are_remembered_than_a_few_thousand() -> None:
    prefixes = Prefixes()
    for number in range(KNOWN + 10):
        prefixes.mark(prompt("a", instructions=f"Instructions {number}."))
    assert len(prefixes._known) <= KNOWN


pieces = st.sampled_from(["", " ", "\n", "a", "b", "long text "])


@given(st.lists(st.lists(st.tuples(pieces, st.booleans()), max_size=6), max_size=30))
def test_whatever_is_sent_one_after_another_is_sent_whole_and_written_once(prompts: Any) -> None:
    prefixes = Prefixes()
    written = set()
    for given_ in prompts:
        asked = tuple(Segment(text, trusted) for text, trusted in given_)
        mark = prefixes.mark(asked)
        if mark is None:
            continue
        prefixes.sent(mark, succeeded=True)
        assert "".join(mark.texts) + mark.rest == prompt_text(asked)
        assert all(text.strip() for text in (*mark.texts, mark.rest))
        if mark.writes:
            assert mark.texts not in written
            written.add(mark.texts)
        else:
            assert mark.texts in written


# --- the judge, at a server with a cache ---------------------------------------------------------------------------


class CachingServer:
    """Does with ``cache_control`` what Anthropic's API is documented to do; a token is a character here."""

    def __init__(self) -> None:
        self.cache: set[tuple[str, ...]] = set()
        self.cost = 0.0
        self.plain = 0
        self.written = 0

    async def answer(self, http: web.Request) -> web.Response:
        content = (await http.json())["messages"][0]["content"]
        blocks = [{"text": content}] if isinstance(content, str) else content
        texts = [block["text"] for block in blocks]
        end = max((i + 1 for i, block in enumerate(blocks) if "cache_control" in block), default=0)
        hit = max((i for i in range(end + 1) if tuple(texts[:i]) in self.cache), default=0)
        read, wrote, rest = (sum(map(len, part)) for part in (texts[:hit], texts[hit:end], texts[end:]))
        await asyncio.sleep(0.01)
        if end:
            self.cache.add(tuple(texts[:end]))
        self.cost += 0.1 * read + 1.25 * wrote + rest
        self.plain += read + wrote + rest
        self.written += wrote
        usage = {"input_tokens": rest, "cache_creation_input_tokens": wrote, "cache_read_input_tokens": read}
        return web.json_response(
            {"content": [{"type": "text", "text": "[[7]]"}], "usage": usage | {"output_tokens": 3}, "model": "c"}
        )


@pytest.fixture
async def at() -> AsyncIterator[tuple[CachingServer, str]]:
    server = CachingServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield server, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def ask(asked: Prompt) -> Request:
    return Request(prompt=asked, expects=Rating(), max_tokens=64, temperature=0.01)


@pytest.mark.parametrize("at_once", [1, 8])
async def test_ten_answers_to_one_document_cost_less_than_half_and_the_document_is_written_once(
    at: tuple[CachingServer, str], at_once: int
) -> None:
    server, url = at
    judge = AnthropicJudge(AnthropicJudgeSettings(base_url=url, model="c"))
    slots = asyncio.Semaphore(at_once)
    document = "word " * 400

    async def one(number: int) -> Any:
        async with slots:
            return await judge.complete(ask(prompt(f"answer {number}", document=document)))

    replies = [await asyncio.gather(*(one(n) for n in range(part, part + 10))) for part in (0, 10, 20)]
    await judge.aclose()
    usage = replies[-1][-1].usage
    assert usage.cached_tokens > len(document)
    assert usage.prompt_tokens == len(prompt_text(prompt("answer 29", document=document)))
    assert len(document) < server.written < 1.2 * len(document)
    assert server.cost < 0.5 * server.plain


async def test_prompts_that_share_nothing_cost_what_they_did(at: tuple[CachingServer, str]) -> None:
    server, url = at
    judge = AnthropicJudge(AnthropicJudgeSettings(base_url=url, model="c"))
    for number in range(6):
        await judge.complete(ask(prompt(f"{number}", document=f"Document {number}", instructions=f"{number}. Rate.")))
    await judge.aclose()
    assert server.cost == server.plain


async def test_the_cache_can_be_left_alone(at: tuple[CachingServer, str]) -> None:
    server, url = at
    judge = AnthropicJudge(AnthropicJudgeSettings(base_url=url, model="c", prompt_cache=False))
    for number in range(4):
        await judge.complete(ask(prompt(f"{number}")))
    await judge.aclose()
    assert server.cost == server.plain
    assert server.written == 0
