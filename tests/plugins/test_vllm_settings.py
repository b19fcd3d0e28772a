"""What of ``vllm_engine`` works where there is no vLLM: its settings, its guard, and being told what is missing."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from lrf.config import parse_pipeline
from lrf.errors import JudgeMisconfiguredError
from lrf.plugin.catalog import load_catalog
from lrf.prompting.expectations import Text
from lrf.prompting.requests import Request
from lrf.prompting.templates import Segment
from lrf.protocols import GenerationSettings
from lrf.stages.score.stage import ScoreStage
from lrf.types import Message
from lrf_vllm.engine_judge import VLLMEngineJudge
from lrf_vllm.guard import SWITCH
from lrf_vllm.sampler import VLLMEngineSampler
from lrf_vllm.settings import VLLMEngineSettings, VLLMSamplerSettings

PARENT = """
import multiprocessing, sys, time
from lrf_vllm.guard import end_with_parent

def child(running):
    end_with_parent()
    running.set()
    time.sleep(3600)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    running = context.Event()
    process = context.Process(target=child, args=(running,))
    process.start()
    running.wait()
    print("running", flush=True)
    time.sleep(3600)
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_guarded_process_ends_with_its_parent_even_when_that_is_killed(tmp_path: Path, method: str) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script), method]
    with subprocess.Popen(command, env={**os.environ, SWITCH: "1"}, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "running\n"
        parent.send_signal(signal.SIGKILL)
        parent.communicate(timeout=60)  # ends when nobody has the other end of the pipe any more


def test_an_engine_argument_that_is_a_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="engine_args has dtype, max_model_len"):
        VLLMEngineSettings(model="m", engine_args={"max_model_len": 9, "dtype": "auto", "kv_cache_dtype": "fp8"})


def test_the_sampler_takes_the_policy_where_no_model_is_named() -> None:
    given = {"policy_model": "the policy"}
    assert VLLMSamplerSettings.model_validate({}, context=given).model == "the policy"
    assert VLLMSamplerSettings.model_validate({"model": "other"}, context=given).model == "other"
    with pytest.raises(ValidationError, match="no policy to sample from"):
        VLLMSamplerSettings.model_validate({})


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is here")
async def test_where_there_is_no_vllm_a_run_can_be_planned_but_a_request_stops_it_and_says_what_to_do() -> None:
    asked = Request((Segment("x"),), Text(), 8, 0.0)
    generation = GenerationSettings((Message("user", "x"),), (1,), 1.0, 1.0, 8)
    judge = VLLMEngineJudge(VLLMEngineSettings(model="m", max_model_len=99))
    sampler = VLLMEngineSampler(VLLMSamplerSettings(model="m"))
    assert judge.capabilities.context_window == 99
    assert judge.identity["model"] == sampler.identity["model"] == "m"
    for asking in (judge.complete(asked), judge.complete(asked), sampler.sample(generation)):
        with pytest.raises(JudgeMisconfiguredError, match=r"vLLM is not installed .* 'lrf\[vllm\]'"):
            await asking
    assert await judge.metrics() == {}
    await judge.aclose()
    await sampler.aclose()


PIPELINE = """
name: p
data: {type: jsonl, path: data.jsonl}
judges: {main: {type: TYPE, model: m}}
dimensions: [helpfulness]
"""


OWN = {"vllm_engine": True, "transformers": True, "vllm": False, "openai": False}


@pytest.mark.parametrize(("judge", "own"), OWN.items())
def test_a_stage_whose_judge_holds_a_model_runs_in_a_process_of_its_own(tmp_path: Path, judge: str, own: bool) -> None:
    pipeline = parse_pipeline(PIPELINE.replace("TYPE", judge), load_catalog(), folder=tmp_path)
    assert ScoreStage().own_process(pipeline) is own
