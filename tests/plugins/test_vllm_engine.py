"""The judge and the sampler ``vllm_engine`` on the real engine, with a tiny random Llama: in an environment with vLLM.

One engine serves all of these tests, each on an event loop of its own.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lrf.errors import ContextTooSmallError, JudgeMisconfiguredError, RejectedError
from lrf.local_models import Encoder
from lrf.prompting.expectations import Choice, Rating, Text, Verdict
from lrf.prompting.requests import Reply, Request
from lrf.prompting.templates import Segment
from lrf.protocols import GenerationSettings, Judge, ReportsMetrics, Sampler
from lrf.types import JSON, Message
from lrf_vllm.labels import common_beginning
from lrf_vllm.settings import VLLMEngineSettings, VLLMSamplerSettings
from tiny_llama import WORDS, write_tiny_llama

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM, in an environment of its own"),
]

SETTINGS: Mapping[str, Any] = {"dtype": "float32", "enforce_eager": True, "max_num_seqs": 16}
WINDOW = 1024
VERDICT = Verdict({"Fully supported": 1.0, "Partially supported": 0.5, "No support": 0.0})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama"), WINDOW)


@pytest.fixture(scope="module")
def judge(folder: Path) -> Iterator[Any]:
    from lrf_vllm.engine_judge import VLLMEngineJudge

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    made = VLLMEngineJudge(VLLMEngineSettings(model=str(folder), analysis=False, **SETTINGS))
    yield made
    asyncio.run(made.aclose())
    assert multiprocessing.active_children() == []


@pytest.fixture
def sampler(judge: Any, folder: Path) -> Any:
    """A sampler on the judge's engine, since starting another takes long."""
    from lrf_vllm.sampler import VLLMEngineSampler

    made = VLLMEngineSampler(VLLMSamplerSettings(model=str(folder), **SETTINGS))
    made._engine = judge._engine
    return made


def request(answer: str = "It was closed for the winter.", **changes: Any) -> Request:
    prompt = (Segment(f"{WORDS[0]}\nRating: [[2]]\n\nAnswer: "), Segment(answer, trusted=False), Segment("\nAnalysis:"))
    return Request(**{"prompt": prompt, "expects": Rating(), "max_tokens": 24, "temperature": 0.01, **changes})


def test_they_satisfy_the_protocols_and_know_their_window_once_started(judge: Any, sampler: Any) -> None:
    assert isinstance(judge, Judge)
    assert isinstance(judge, ReportsMetrics)
    assert isinstance(sampler, Sampler)
    assert judge.capabilities.context_window is None
    asyncio.run(judge.complete(request(reply_mode="logprobs")))
    assert judge.capabilities.context_window == WINDOW


@pytest.mark.parametrize("expects", [Rating(), VERDICT, Rating(low=1, high=5), Choice(("A", "B"))])
async def test_the_probabilities_are_those_of_forward_passes(judge: Any, folder: Path, expects: Any) -> None:
    asked = request(reply_mode="logprobs", expects=expects)
    reply = await judge.complete(asked)
    exact = held_to_labels(folder, asked)
    assert sum(exact.values()) == pytest.approx(1, abs=1e-5)
    assert reply.probabilities == pytest.approx(exact, abs=2e-3)
    assert reply.text == "Rating: " + max(exact, key=lambda option: exact[option])
    assert expects.read(reply, "logprobs") is not None


def held_to_labels(folder: Path, asked: Request) -> dict[str, float]:
    """The probability of each label by transformers: at each place over the tokens that a label can go on with."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    encoder = Encoder(tokenizer)
    written = {i: tokenizer.decode([i]) for i in range(4, len(tokenizer))}
    prompt = encoder.prompt("".join(s.text for s in asked.prompt))

    def follow(text: str, rests: list[str]) -> dict[str, float]:
        if len(rests) == 1:
            return {rests[0]: 1.0}
        allowed = [i for i, t in written.items() if t and any(rest.startswith(t) for rest in rests)]
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + encoder.continuation(text)])).logits[0, -1]
        found = dict.fromkeys(rests, 0.0)
        for token, p in zip(allowed, logits[allowed].softmax(0).tolist(), strict=True):
            t = written[token]
            for end, share in follow(text + t, [r[len(t) :] for r in rests if r.startswith(t)]).items():
                found[t + end] += p * share
        return found

    shared = common_beginning(asked.options)
    found = follow("Rating: " + shared, [option[len(shared) :] for option in asked.options])
    return {shared + rest: p for rest, p in found.items()}


async def test_a_ten_is_two_tokens_and_not_taken_for_a_one(judge: Any, folder: Path) -> None:
    from transformers import AutoTokenizer

    encoder = Encoder(AutoTokenizer.from_pretrained(folder))
    assert len(encoder.continuation("[[10]]")) == len(encoder.continuation("[[1]]")) + 1
    asked = [request(f"It was closed for {n} days.", reply_mode="logprobs") for n in range(12)]
    replies = zip(asked, await asyncio.gather(*(judge.complete(r) for r in asked)), strict=True)
    twice = [(r, reply) for r, reply in replies if reply.usage.calls == 2]  # where one of the two is likely at all
    assert twice
    for wanted, reply in twice[:3]:
        exact = held_to_labels(folder, wanted)
        assert reply.probabilities["[[10]]"] == pytest.approx(exact["[[10]]"], abs=1e-3)
        assert reply.probabilities["[[1]]"] == pytest.approx(exact["[[1]]"], abs=1e-3)


async def test_an_analysis_that_does_not_end_is_a_reply_cut_short(judge: Any, folder: Path) -> None:
    from lrf_vllm.engine_judge import VLLMEngineJudge

    writing = VLLMEngineJudge(VLLMEngineSettings(model=str(folder), **SETTINGS))
    writing._engine = judge._engine
    reply = await writing.complete(request(reply_mode="logprobs"))
    assert (reply.finish, reply.probabilities, reply.usage.completion_tokens) == ("length", None, 24)


async def test_an_analysis_ends_at_the_mark_and_the_labels_are_weighed_there(judge: Any, folder: Path) -> None:
    from lrf_vllm.engine_judge import VLLMEngineJudge

    mark = (await judge.complete(request("", expects=Text(), max_tokens=3))).text[-1:]
    writing = VLLMEngineJudge(VLLMEngineSettings(model=str(folder), **SETTINGS))
    writing._engine = judge._engine
    reply = await writing.complete(request("", reply_mode="logprobs", expects=Labels((f"{mark}a", f"{mark}b"))))
    assert set(reply.probabilities) == {f"{mark}a", f"{mark}b"}
    assert reply.usage.calls == 2
    assert 0 < reply.usage.completion_tokens <= 4


@dataclass(frozen=True)
class Labels:
    options: tuple[str, ...]
    kind: str = "labels"
    schema: Mapping[str, JSON] | None = None

    def read(self, reply: Reply, reply_mode: str) -> str:
        return reply.text


@dataclass(frozen=True)
class Card:
    """JSON that even a random model comes to the end of."""

    kind: str = "card"
    options: tuple[str, ...] = ()

    @property
    def schema(self) -> Mapping[str, JSON]:
        verdict = {"type": "string", "enum": ["Fully supported", "No support"]}
        properties = {"word": {"type": "string", "maxLength": 8}, "verdict": verdict}
        return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}

    def read(self, reply: Reply, reply_mode: str) -> Any:
        return json.loads(reply.text, strict=False)


async def test_a_structured_reply_satisfies_its_schema(judge: Any) -> None:
    asked = [request(expects=Card(), reply_mode="json", max_tokens=400, temperature=1.0, seed=s) for s in range(6)]
    replies = await asyncio.gather(*(judge.complete(r) for r in asked))
    for reply in replies:
        assert reply.finish == "stop"
        card = Card().read(reply, "json")
        assert set(card) == {"word", "verdict"}
        assert len(card["word"]) <= 8
        assert card["verdict"] in ("Fully supported", "No support")


async def test_a_seed_gives_the_same_text_again_whatever_is_computed_beside_it(judge: Any) -> None:
    def free(seed: int) -> Request:
        return request(expects=Text(), temperature=1.0, seed=seed)

    alone = await judge.complete(free(7))
    beside = await asyncio.gather(*(judge.complete(free(seed)) for seed in range(12)))
    assert alone.text == beside[7].text
    assert len({reply.text for reply in beside}) > 6
    assert (alone.finish, alone.usage.completion_tokens) == ("length", 24)


async def test_what_prompts_begin_with_alike_is_taken_from_the_prefix_cache_and_the_figures_tell(judge: Any) -> None:
    long = request("It snowed. " * 40, expects=Text())
    first, second = await judge.complete(long), await judge.complete(long)
    assert second.usage.prompt_tokens == first.usage.prompt_tokens > 300
    assert first.usage.cached_tokens < second.usage.cached_tokens < second.usage.prompt_tokens
    figures = await judge.metrics()
    assert 0 < figures["prefix_cache_hit_rate"] < 1
    assert figures["prefix_cache_tokens"] > 600


async def test_a_request_that_does_not_fit_is_refused_before_it_is_computed(judge: Any) -> None:
    before = await judge.metrics()
    for asked in (request("It snowed. " * 400), request(max_tokens=WINDOW)):
        with pytest.raises(ContextTooSmallError, match=f"the model takes {WINDOW} together"):
            await judge.complete(asked)
    assert await judge.metrics() == before


async def test_requests_nobody_waits_for_are_given_up(judge: Any) -> None:
    async def unfinished(running: Any) -> int:
        return int(running._engine.get_num_unfinished_requests())

    def long(seed: int) -> Request:
        return request(expects=Text(), max_tokens=900, temperature=1.0, seed=seed)

    asked = asyncio.gather(*(judge.complete(long(seed)) for seed in range(16)))
    while not await judge._engine.run(unfinished):  # noqa: ASYNC110
        await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await asyncio.sleep(0.5)
    assert await judge._engine.run(unfinished) == 0
    assert (await judge.complete(request(expects=Text()))).text


async def test_ctrl_c_does_not_reach_the_engine(judge: Any) -> None:
    [core] = multiprocessing.active_children()
    asked = asyncio.create_task(judge.complete(request(expects=Text(), max_tokens=200, temperature=1.0, seed=2)))
    await asyncio.sleep(0.2)
    os.kill(core.pid or 0, signal.SIGINT)
    assert (await asked).usage.completion_tokens > 0
    assert core.is_alive()


async def test_each_candidate_follows_its_own_seed_and_the_prompt_is_computed_once(sampler: Any) -> None:
    async def hits(running: Any) -> float:
        return float(running.metrics().prefix_hits)

    prompt = (Message("user", "Why was it closed, and when? " * 40),)
    before = await sampler._engine.run(hits)
    four = await sampler.sample(GenerationSettings(prompt, (4, 11, 4, 9), temperature=1.0, top_p=1.0, max_tokens=16))
    shared = await sampler._engine.run(hits) - before
    assert shared > 3 * 0.7 * four[0].usage.prompt_tokens
    assert [r.usage.prompt_tokens > 0 for r in four] == [True, False, False, False]
    [alone] = await sampler.sample(GenerationSettings(prompt, (11,), temperature=1.0, top_p=1.0, max_tokens=16))
    assert four[0].text == four[2].text
    assert alone.text == four[1].text
    assert len({r.text for r in four}) == 3
    assert all(r.finish in ("stop", "length") and r.usage.completion_tokens <= 16 for r in four)
    greedy = await sampler.sample(GenerationSettings(prompt, (1, 2), temperature=0.0, top_p=1.0, max_tokens=16))
    assert greedy[0].text == greedy[1].text


async def test_without_a_chat_template_turns_are_refused(sampler: Any) -> None:
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    with pytest.raises(JudgeMisconfiguredError, match="no chat template"):
        await sampler.sample(GenerationSettings(turns, (1,), 1.0, 1.0, 8))


async def test_what_vllm_refuses_is_rejected(folder: Path, judge: Any) -> None:
    from lrf_vllm.engine_judge import VLLMEngineJudge

    odd = VLLMEngineJudge(VLLMEngineSettings(model=str(folder), **SETTINGS))
    odd._engine = judge._engine
    with pytest.raises(RejectedError, match="vLLM refuses"):
        await odd.complete(request(expects=Text(), temperature=-1.0))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"engine_args": {"no_such_argument": 1}}, "no_such_argument"),
        ({"max_model_len": 99_999}, "99999"),
    ],
)
async def test_an_engine_that_can_not_start_stops_the_run(folder: Path, changes: dict[str, Any], says: str) -> None:
    from lrf_vllm.engine_judge import VLLMEngineJudge

    judge = VLLMEngineJudge(VLLMEngineSettings.model_validate({"model": str(folder), **SETTINGS, **changes}))
    for _ in range(2):
        with pytest.raises(JudgeMisconfiguredError, match=says):
            await judge.complete(request())
    await judge.aclose()


async def test_its_identity_names_weights_and_version_but_no_address_of_memory(folder: Path) -> None:
    from lrf_vllm.engine_judge import VLLMEngineJudge

    def identity(**changes: Any) -> Mapping[str, JSON]:
        return VLLMEngineJudge(VLLMEngineSettings(model=str(folder), **changes)).identity

    assert {"vllm", "files", "model", "type"} <= set(identity())
    assert json.loads(json.dumps(identity())) == identity(max_num_seqs=3, gpu_memory_utilization=0.3)
    assert identity() != identity(dtype="float32")


def test_an_engine_that_died_stops_the_run_and_a_closed_one_starts_again(judge: Any) -> None:
    async def kill() -> None:
        asked = asyncio.create_task(judge.complete(request(expects=Text(), max_tokens=900)))
        await asyncio.sleep(0.3)
        for core in multiprocessing.active_children():
            core.kill()
        with pytest.raises(JudgeMisconfiguredError, match="engine has died"):
            await asked
        with pytest.raises(JudgeMisconfiguredError, match="engine has died"):
            await judge.complete(request())
        await judge.aclose()

    async def again() -> Reply:
        reply: Reply = await judge.complete(request(reply_mode="logprobs"))
        return reply

    asyncio.run(kill())
    assert asyncio.run(again()).probabilities
