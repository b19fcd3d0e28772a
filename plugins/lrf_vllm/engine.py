"""vLLM's async engine in this process, in a thread with its own event loop.

The model itself runs in processes that vLLM starts from there. So lrf's event loop never stalls, the engine outlives
event loops of its callers, and closing it frees all of its memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import itertools
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from importlib import metadata
from multiprocessing import resource_tracker
from typing import Any, Generic, TypeVar

from lrf.errors import ContextTooSmallError, JudgeMisconfiguredError, RejectedError, UnavailableError
from lrf.local_models import Encoder, weights_identity
from lrf.prompting.requests import Usage
from lrf.types import JSON
from lrf_vllm.guard import SWITCH
from lrf_vllm.metrics import EngineMetrics, parse_metrics
from lrf_vllm.settings import EngineSettings

T = TypeVar("T")

_SHUTDOWN_S = 30.0
_ENVIRONMENT = {
    # as `vllm serve` does: a process with threads can't be forked safely
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # on a CPU, threads that spin while they wait slow everything else down
    SWITCH: "1",
}
_DEFAULTS = {
    "enable_prefix_caching": True,
    # small models that must write JSON may write white space without end
    "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
}


S = TypeVar("S", bound=EngineSettings)


class EngineComponent(Generic[S]):
    """What the judge and the sampler share. The model is loaded with the first call."""

    def __init__(self, settings: S) -> None:
        self._settings = settings
        self._engine = VLLMEngine(settings)

    @cached_property
    def identity(self) -> Mapping[str, JSON]:
        s = self._settings
        template = s.chat_template and hashlib.sha256(s.chat_template.read_bytes()).hexdigest()
        return {
            "type": "vllm_engine",
            **s.identity_fields(),
            **weights_identity(s.model, s.revision),
            "vllm": vllm_version(),
            "chat_template": template,
        }

    @property
    def request_timeout_s(self) -> float:
        return self._settings.request_timeout_s

    async def aclose(self) -> None:
        await self._engine.aclose()


def vllm_version() -> str | None:
    """The installed version of vLLM; None without one, as in an environment that only plans."""
    distributions = metadata.packages_distributions().get("vllm")
    return metadata.version(distributions[0]) if distributions else None


class VLLMEngine:
    """The engine in its thread. The first call of :meth:`run` starts it, also after :meth:`aclose`."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._running: RunningEngine | Exception | None = None

    @property
    def window(self) -> int | None:
        """Tokens that prompt and reply may have together; None until it is known."""
        running = self._running
        return running.window if isinstance(running, RunningEngine) else self._settings.max_model_len

    @property
    def started(self) -> bool:
        return isinstance(self._running, RunningEngine)

    async def run(self, work: Callable[[RunningEngine], Awaitable[T]]) -> T:
        """The result of ``work``, awaited on the engine's event loop.

        Raises :class:`lrf.errors.JudgeMisconfiguredError` when the engine can't start or has died.
        """

        async def when_started() -> T:
            if isinstance(self._running, RunningEngine):
                return await work(self._running)
            assert self._running is not None
            raise self._running

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._main, args=(self._loop,), name="lrf-vllm", daemon=True)
                self._thread.start()
            future = asyncio.run_coroutine_threadsafe(when_started(), self._loop)
        return await asyncio.wrap_future(future)

    async def aclose(self) -> None:
        """Cancel the requests in flight, and wait for the end of the engine's processes."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            await asyncio.to_thread(thread.join)

    def _main(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        # lrf lets calls in flight finish after Ctrl-C, so the engine's processes, which inherit this mask, ignore it.
        resource_tracker.ensure_running()  # if it started later, it would lift the mask
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._running = RunningEngine(self._settings)
        except JudgeMisconfiguredError as error:
            self._running = error
        except Exception as error:
            self._running = JudgeMisconfiguredError(
                f"vLLM can't run model {self._settings.model!r} here: {error}; its output is above, or in the "
                "stage's log"
            )
        loop.run_forever()
        running, self._running = self._running, None
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        if isinstance(running, RunningEngine):
            running.close()
        loop.close()


class RunningEngine:
    """The started engine. Use it on its own event loop only."""

    def __init__(self, settings: EngineSettings) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise JudgeMisconfiguredError(
                f"vLLM is not installed in this environment ({sys.executable}): pip install 'lrf[vllm]' into it, or "
                "name another one under `python:` in the pipeline"
            )
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        s = settings
        args = AsyncEngineArgs(
            model=s.model,
            revision=s.revision,
            trust_remote_code=s.trust_remote_code,
            dtype=s.dtype,
            max_model_len=s.max_model_len,
            gpu_memory_utilization=s.gpu_memory_utilization,
            tensor_parallel_size=s.tensor_parallel_size,
            max_num_seqs=s.max_num_seqs,
            enforce_eager=s.enforce_eager,
            **{**_DEFAULTS, **s.engine_args},
        )
        self._sampling = s.sampling
        self._engine = AsyncLLM.from_engine_args(args)
        self._number = itertools.count()
        self.window: int = self._engine.model_config.max_model_len
        tokenizer = self._engine.get_tokenizer()
        if s.chat_template is not None:
            tokenizer.chat_template = s.chat_template.read_text(encoding="utf-8")
        self.encoder = Encoder(tokenizer, s.chat_template_kwargs)

    async def generate(self, prompt: Sequence[int], *, max_tokens: int, **params: Any) -> Any:
        """vLLM's ``RequestOutput`` for the tokens of a prompt, once it is complete.

        Raises a :class:`lrf.errors.JudgeError`.
        """
        from vllm import SamplingParams, TokensPrompt
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        if len(prompt) + max_tokens > self.window:
            raise ContextTooSmallError(
                f"the prompt has {len(prompt)} tokens and the reply may have {max_tokens}; the model takes "
                f"{self.window} together"
            )
        try:
            sampling = SamplingParams(
                max_tokens=max_tokens,
                output_kind=RequestOutputKind.FINAL_ONLY,
                **{**self._sampling, **params},
            )
            tokens = TokensPrompt(prompt_token_ids=list(prompt))
            generating = self._engine.generate(tokens, sampling, request_id=str(next(self._number)))
            outputs = [output async for output in generating]
        except EngineDeadError as error:
            raise JudgeMisconfiguredError(
                "vLLM's engine has died; its output is above, or in the stage's log. Finished work is kept: give "
                "the engine less (max_model_len, max_num_seqs, gpu_memory_utilization), and run the same command again"
            ) from error
        except EngineGenerateError as error:
            raise UnavailableError(f"vLLM failed at a request: {error.__cause__!r}") from error
        except (VLLMClientError, TypeError, ValueError) as error:
            raise RejectedError(f"vLLM refuses the request: {error}") from error
        return outputs[-1]

    def metrics(self) -> EngineMetrics:
        """The metrics of all engines of this process."""
        from prometheus_client import generate_latest

        return parse_metrics(generate_latest().decode())

    def close(self) -> None:
        engine = self._engine
        del self._engine  # vLLM keeps a reference to this object, and would shut the engine down again at exit
        if engine.output_handler is not None:
            engine.output_handler.cancel()
        engine.shutdown(timeout=_SHUTDOWN_S)


def usage_of(output: Any) -> Usage:
    """The tokens of a request with one output."""
    return Usage(len(output.prompt_token_ids), len(output.outputs[0].token_ids), output.num_cached_tokens or 0)
