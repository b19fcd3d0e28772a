"""What of ``vllm_engine`` works where there is no vLLM: its settings, its guard, and being told what is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from lrf.catalog import load_catalog, load_target
from lrf.config import parse_pipeline
from lrf.errors import PluginError
from lrf.stages.runner import _own_process
from lrf_vllm.guard import SWITCH
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
def test_a_guarded_process_ends_with_the_one_that_started_it_even_when_that_is_killed(
    tmp_path: Path, method: str
) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script), method]
    with subprocess.Popen(command, env={**os.environ, SWITCH: "1"}, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "running\n"
        parent.send_signal(signal.SIGKILL)
        parent.communicate(timeout=60)  # ends when nobody has the other end of the pipe any more


def test_an_engine_argument_that_is_a_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="engine_args holds dtype, max_model_len"):
        VLLMEngineSettings(model="m", engine_args={"max_model_len": 9, "dtype": "auto", "kv_cache_dtype": "fp8"})


def test_the_sampler_takes_the_policy_where_no_model_is_named() -> None:
    given = {"policy_model": "the policy"}
    assert VLLMSamplerSettings.model_validate({}, context=given).model == "the policy"
    assert VLLMSamplerSettings.model_validate({"model": "other"}, context=given).model == "other"
    with pytest.raises(ValidationError, match="no policy to sample from"):
        VLLMSamplerSettings.model_validate({})


@pytest.mark.parametrize("kind", ["judge", "sampler"])
def test_where_there_is_no_vllm_the_extra_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    for module in [name for name in sys.modules if name.startswith("lrf_vllm.engine") or name == "lrf_vllm.sampler"]:
        monkeypatch.delitem(sys.modules, module)
    spec = next(s for s in load_catalog().specs(kind) if s.name == "vllm_engine")
    with pytest.raises(PluginError, match=r"there is no vllm; pip install 'lrf\[vllm\]'"):
        load_target(spec)


PIPELINE = """
name: p
data: {type: jsonl, path: data.jsonl}
judges: {main: {type: TYPE, model: m}}
dimensions: [helpfulness]
"""


@pytest.mark.parametrize(("judge", "own"), [("vllm_engine", True), ("vllm", False), ("openai", False)])
def test_a_stage_whose_judge_holds_a_model_runs_in_a_process_of_its_own(tmp_path: Path, judge: str, own: bool) -> None:
    pipeline = parse_pipeline(PIPELINE.replace("TYPE", judge), load_catalog(), folder=tmp_path)
    assert _own_process(pipeline, "score") is own
    assert not _own_process(pipeline, "pairs")
