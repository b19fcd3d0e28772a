"""A sequence classifier of transformers, and its outputs for the candidates of a sample."""

from __future__ import annotations

import inspect
import json
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lrf.errors import Reason, StageError
from lrf.prompting.templates import Template
from lrf.types import Message, Sample
from lrf_classifier.outputs import read_output_info
from lrf_classifier.settings import ClassifierSettings
from lrf_classifier.shared import NoOutputs


class SequenceClassifier:
    """A reward model in this process. Candidates are computed one by one, the prompt that they share once."""

    def __init__(self, settings: ClassifierSettings) -> None:
        name = str(settings.model or settings.hub_model)
        where = {"revision": settings.revision, "trust_remote_code": settings.trust_remote_code}
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(name, **where)
            self.model: Any = AutoModelForSequenceClassification.from_pretrained(
                name, dtype=settings.dtype, use_safetensors=True, **where
            )
        except Exception as error:  # hub, file system, JSON, a missing library: all of them mean the same to the user
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise StageError(
                f"the reward model {name} can't be loaded: {reason}; it must be a sequence classifier with safetensors "
                "weights"
            ) from error
        if settings.chat_template is not None:
            self.tokenizer.chat_template = settings.chat_template.read_text(encoding="utf-8")
        if not self.tokenizer.chat_template:
            raise StageError(f"the reward model {name} has no chat template; set chat_template to a file")
        gpu = torch.cuda.is_available() if settings.device == "auto" else settings.device == "cuda"
        self.device = torch.device("cuda" if gpu else "cpu")
        self.model.to(self.device).eval()
        config = self.model.config
        self.output_info = read_output_info(config, name)
        self.template = Template(settings.prompt_template, ("context", "question"))
        if self.output_info.prompt_template_sha256 not in (None, self.template.sha256):
            raise StageError(
                f"the reward model {name} was trained with another prompt_template than this dimension's (its hash is "
                f"{self.output_info.prompt_template_sha256}); set prompt_template to the policy.prompt_template of "
                "that run"
            )
        window = getattr(config.get_text_config(), "max_position_embeddings", None)
        self.limit = min((n for n in (window, settings.max_tokens) if n is not None), default=None)
        self._shares_prompts = _goes_on_from_a_prompt(self.model)

    @torch.inference_mode()
    def outputs(self, sample: Sample) -> tuple[dict[str, float] | NoOutputs, ...]:
        """The outputs by label for each candidate, or the reason for having none."""
        rows = [self._ids(sample, candidate.text) for candidate in sample.candidates]
        good = [ids for ids in rows if not isinstance(ids, NoOutputs)]
        shared = min(_common_beginning(good), *map(self._read_at, good)) if self._shares_prompts and good else 0
        cache: Any = None
        if shared and len(good) > 1:
            cache = self.model.base_model(self._tensor(good[0][:shared]), use_cache=True).past_key_values
        outputs: list[dict[str, float] | NoOutputs] = []
        for ids in rows:
            if isinstance(ids, NoOutputs):
                outputs.append(ids)
                continue
            if cache is None:
                logits = self.model(self._tensor(ids)).logits
            else:
                logits = self.model(self._tensor(ids[shared:]), past_key_values=cache, use_cache=True).logits
                cache.crop(shared - len(ids))
            outputs.append(dict(zip(self.output_info.labels, logits[0].float().tolist(), strict=True)))
        return tuple(outputs)

    def _ids(self, sample: Sample, answer: str) -> list[int] | NoOutputs:
        rendered = self.template.render({"context": sample.context, "question": sample.query})
        prompt = sample.messages or (Message("user", rendered),)
        chat = [m.as_row() for m in (*prompt, Message("assistant", answer))]
        said = json.dumps(chat, ensure_ascii=False)
        spelt = next((token for token in self.tokenizer.all_special_tokens if token in said), None)
        if spelt is not None:
            return NoOutputs(
                Reason.SPECIAL_TOKEN, f"a text spells {spelt!r}, which the model would read as a mark of its own"
            )
        tools = {"tools": [dict(tool) for tool in sample.tools]} if sample.tools else {}
        try:
            encoded = self.tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True, **tools)
        except Exception as error:  # a template is a program: it may raise anything
            return NoOutputs(Reason.CHAT_TEMPLATE, f"the chat template refuses the turns: {error}")
        ids = list(encoded["input_ids"])
        if self.limit is not None and len(ids) > self.limit:
            return NoOutputs(
                Reason.TOO_LONG, f"prompt and answer have {len(ids)} tokens; the reward model takes {self.limit}"
            )
        return ids

    def _read_at(self, ids: list[int]) -> int:
        """Where the output is read: at the last token that isn't padding, which may be a template's end of a turn."""
        pad = self.model.config.get_text_config().pad_token_id
        return next((i for i in range(len(ids) - 1, -1, -1) if ids[i] != pad), 0)

    def _tensor(self, ids: list[int]) -> Any:
        return torch.tensor([ids], device=self.device)  # (1, tokens)


def _common_beginning(rows: list[list[int]]) -> int:
    shortest = min(map(len, rows), default=0)
    return next((i for i in range(shortest) if len({row[i] for row in rows}) > 1), shortest)


def _goes_on_from_a_prompt(model: Any) -> bool:
    """Whether the model can be given the keys and values of a prompt, and drop what came after it."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or (
        ["full_attention"] if getattr(config, "sliding_window", None) is None else ["sliding_attention"]
    )
    causal = "past_key_values" in inspect.signature(model.forward).parameters
    return causal and all(kind == "full_attention" for kind in kinds)
