"""Answers written by a vLLM server, which loads the policy's weights from a folder before it writes.

The server is a process of its own, in an environment of its own (vLLM and lrf's trainers need different versions of
transformers), on other GPUs, on a share of the same ones, or on a CPU. What it loads is what the trainer would save as
its checkpoint: all weights, or LoRA's adapters.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lrf.errors import (
    BadReplyError,
    JudgeError,
    RateLimitedError,
    StageError,
    TimedOutError,
    UnavailableError,
)
from lrf.http.client import HttpClient
from lrf.http.settings import EndpointSettings
from lrf.types import JSON
from lrf_grpo.patience import Patience, Wait
from lrf_grpo.settings import VLLM

COMMAND = "VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --logprobs-mode processed_logprobs"
COMMAND_FOR_ADAPTERS = f"VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 {COMMAND} --enable-lora --max-lora-rank RANK"

Answer = tuple[list[int], list[float]]
"""An answer's token ids, the one that ends it included, and the log-probability with which each was drawn."""

_PASSING = (UnavailableError, TimedOutError, RateLimitedError, BadReplyError)
_ADAPTERS = "lrf-policy"


class VLLMServer:
    """Writes answers on a vLLM server.

    Parameters
    ----------
    settings: where the server is.
    sampling: temperature and the like, as vLLM's request has them.
    patience: with a server that has gone away; an error is raised when it ends.
    """

    def __init__(self, settings: VLLM, sampling: Mapping[str, JSON], patience: Patience) -> None:
        self.patience = patience
        self._sampling = sampling
        self._endpoint = EndpointSettings(
            base_url=settings.base_url.removesuffix("/v1"),
            model="the policy",
            api_key_env=settings.api_key_env,
            request_timeout_s=settings.request_timeout_s,
            max_concurrency=256,
            max_reply_mb=512,
        )
        self._model = ""
        self._written = self._has_base = False

    def check(self, longest: int) -> None:
        """Whether the server is there, can load weights, and takes this many tokens. Raises StageError if not."""
        asyncio.run(self._with_client(lambda client: self._check(client, longest)))

    async def _check(self, client: HttpClient, longest: int) -> None:
        model = (await client.get_json("/v1/models"))["data"][0]
        self._model = str(model["id"])
        try:
            config = (await client.get_json("/server_info?config_format=json"))["vllm_config"]["model_config"]
        except (JudgeError, KeyError, TypeError):
            raise StageError(self._advice("the server can't load weights: it is not in development mode")) from None
        if config["logprobs_mode"] != "processed_logprobs":
            raise StageError(self._advice(f"the server gives {config['logprobs_mode']}, not what it drew tokens with"))
        if model["max_model_len"] < longest:
            raise StageError(
                f"train.vllm: the server takes {model['max_model_len']} tokens, and the longest prompt with its answer "
                f"has {longest}; start it with --max-model-len {longest}, or set max_tokens and answer_tokens lower"
            )

    def answers(self, weights: Path, asked: Sequence[tuple[Sequence[int], int]], group: int) -> list[list[Answer]]:
        """``group`` answers to each prompt (token ids, and the seed of its answers) by the policy in this folder.

        The weights are loaded before each attempt: a server that was started again has the first ones. Waits while the
        server is away. Raises :class:`lrf.errors.StageError`.
        """
        wait = Wait(self.patience)
        while True:
            try:
                answers: list[list[Answer]] = asyncio.run(
                    self._with_client(lambda client: self._answers(client, weights, asked, group))
                )
            except _PASSING as error:
                self._has_base = False
                if not self._written:  # it never worked: no outage
                    raise StageError(self._advice(str(error))) from error
                if not wait.pause(error):
                    raise StageError(self.patience.ended(error)) from error
            else:
                self._written = True
                return answers

    async def _with_client(self, work: Callable[[HttpClient], Any]) -> Any:
        client = HttpClient(self._endpoint)
        try:
            return await work(client)
        except _PASSING:
            raise
        except JudgeError as error:
            raise StageError(self._advice(str(error))) from error
        finally:
            await client.aclose()

    async def _answers(
        self, client: HttpClient, weights: Path, asked: Sequence[tuple[Sequence[int], int]], group: int
    ) -> list[list[Answer]]:
        model = await self._load(client, weights)
        return await asyncio.gather(*(self._group(client, model, *one, group) for one in asked))

    async def _load(self, client: HttpClient, weights: Path) -> str:
        """Make the server load the policy; returns the name to ask for."""
        adapters = weights / "adapter_config.json"
        if adapters.exists():
            if not self._has_base:  # an earlier training may have left its own weights there
                await self._reload(client, _path_or_name(json.loads(adapters.read_text())["base_model_name_or_path"]))
                self._has_base = True
            body: dict[str, JSON] = {"lora_name": _ADAPTERS, "lora_path": str(weights), "load_inplace": True}
            with suppress(BadReplyError):  # a sentence, not JSON
                await client.post("/v1/load_lora_adapter", body)
            models = (await client.get_json("/v1/models"))["data"]
            if not any(model["id"] == _ADAPTERS and model["root"] == str(weights) for model in models):
                raise StageError(self._advice(f"the server didn't load the adapters in {weights}"))
            return _ADAPTERS
        await self._reload(client, str(weights))
        return self._model

    async def _reload(self, client: HttpClient, weights: str) -> None:
        await client.post("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": weights}})
        if not (await client.post("/reset_prefix_cache", {})).get("success"):
            raise BadReplyError(f"{self._endpoint.base_url}: the prefix cache of earlier weights couldn't be emptied")

    async def _group(
        self, client: HttpClient, model: str, prompt: Sequence[int], seed: int, group: int
    ) -> list[Answer]:
        request = {
            **self._sampling, "model": model, "prompt": list(prompt), "n": group, "seed": seed,
            "logprobs": 0, "return_token_ids": True,
        }  # fmt: skip
        choices = sorted((await client.post("/v1/completions", request))["choices"], key=lambda choice: choice["index"])
        return [(choice["token_ids"], choice["logprobs"]["token_logprobs"]) for choice in choices]

    def _advice(self, what: str) -> str:
        return (
            f"train.vllm: {what.rstrip('.')}. Start the server with the model that is trained: {COMMAND} (with LoRA: "
            f"{COMMAND_FOR_ADAPTERS}), and see that it can read the folder of weights (train.vllm.weights)"
        )


def _path_or_name(model: str) -> str:
    return str(Path(model).absolute()) if Path(model).exists() else model


def sampling(temperature: float, top_p: float, answer_tokens: int, stop_ids: Sequence[int]) -> dict[str, JSON]:
    """All that decides what is drawn: the server's own defaults come from the model's generation_config.json."""
    return {
        "temperature": temperature, "top_p": top_p, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "max_tokens": answer_tokens,
        "ignore_eos": True, "stop_token_ids": list(stop_ids),
    }  # fmt: skip
