"""What follows from a component's settings: its identity, a stage's fingerprint, and the model's name."""

from __future__ import annotations

from typing import ClassVar

import pytest

from lrf.http.bases import HttpJudge
from lrf.http.settings import EndpointSettings
from lrf.settings import ModelReference, Settings
from lrf_glm.judge import GLMJudge
from lrf_glm.settings import GLMJudgeSettings
from lrf_openai.judge import OpenAIJudge
from lrf_openai.settings import OpenAIJudgeSettings


class OwnSettings(EndpointSettings):
    not_fingerprinted: ClassVar[frozenset[str]] = frozenset({"retries"})
    not_identity: ClassVar[frozenset[str]] = frozenset({"strict"})

    max_concurrency: int = 3
    temper: str = "calm"
    retries: int = 1
    strict: bool = False


OWN = OwnSettings(base_url="http://a.example/v1", model="m", api_key_env="KEY")


class OwnJudge(HttpJudge[OwnSettings]):
    """A third party's judge that says nothing of its identity."""


def test_addresses_keys_and_limits_are_left_out_of_identities_and_fingerprints_in_subclasses_too() -> None:
    assert OWN.fingerprint_fields() == {"model": "m", "temper": "calm", "strict": False}
    assert OWN.identity_fields() == {"model": "m", "temper": "calm"}


async def test_a_judge_over_http_has_an_identity_made_of_its_settings() -> None:
    judge, extended = OwnJudge(OWN), OwnJudge(OWN, identity={"type": "own", "version": 2})
    assert judge.identity == {"type": "OwnJudge", "model": "m", "temper": "calm"}
    assert extended.identity == {"type": "own", "version": 2, "model": "m", "temper": "calm"}
    await judge.aclose()
    await extended.aclose()


@pytest.mark.parametrize(
    "changed", [{"base_url": "http://b/v1"}, {"request_timeout_s": 1}, {"logprobs": True}, {"seed": True}]
)
async def test_judges_that_differ_in_nothing_that_changes_replies_share_them(changed: dict[str, object]) -> None:
    one, other = (OpenAIJudge(OpenAIJudgeSettings.model_validate({"model": "m", **c})) for c in ({}, changed))
    assert one.identity == other.identity
    warmer = OpenAIJudge(OpenAIJudgeSettings(model="m", temperature=0.7))
    assert warmer.identity != one.identity
    for judge in (one, other, warmer):
        await judge.aclose()


async def test_a_default_that_depends_on_the_model_is_part_of_the_identity_as_it_came_out() -> None:
    judge = GLMJudge(GLMJudgeSettings(model="glm-4.6"))
    assert judge.identity["reasoning_tokens"] == 4096
    await judge.aclose()


def test_a_model_is_known_by_its_name_its_host_and_whether_it_is_asked_in_batches() -> None:
    assert OWN.model_reference == ModelReference("m", "a.example")
    batches = OpenAIJudgeSettings.model_validate({"model": "m", "batch": {}})
    assert batches.model_reference == ModelReference("m", "api.openai.com", batch=True)
    assert Settings().model_reference is None
