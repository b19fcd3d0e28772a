"""The policy and its tokenizer: loaded, or tiny and random for a trial."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrf.errors import StageError
from lrf.protocols import TrainingJob
from lrf_training.adapters import lora_config
from lrf_training.settings import BasePolicySettings, Init, TrainingSettings
from lrf_training.tokens import TokenCounts

ADAPTERS = "adapter_config.json"
"""File of a folder of peft's adapters."""

PLAIN_TEMPLATE = r"""
{%- if tools %}{{- raise_exception('the plain template knows no tools') }}{%- endif %}
{%- for message in messages %}
{%- if message['tool_calls'] %}{{- raise_exception('the plain template knows no calls of tools') }}{%- endif %}
{{- '### ' + message['role'] + '\n' + message['content'] }}
{{- eos_token if message['role'] == 'assistant' else '\n\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '### assistant\n' }}
{%- endif %}"""
"""Chat template for tokenizers without one. Needs an end-of-sequence token."""


@dataclass(frozen=True, slots=True)
class Tokenization:
    """The tokenizer with its chat template.

    ``window`` is the model's longest sequence in tokens, None if unknown. ``template`` is where the chat template comes
    from: "file", "own" or "plain". ``stop_ids`` are the tokens that end a generation. ``warning`` is one about the
    window.
    """

    tokenizer: Any
    window: int | None
    template: str
    stop_ids: frozenset[int]
    warning: str | None = None


def prepare_tokenizer(job: TrainingJob, settings: TrainingSettings, texts: Iterable[str]) -> Tokenization:
    """The policy's tokenizer (with ``init`` one trained on ``texts``), with a chat template and a padding token.

    Raises :class:`lrf.errors.StageError`.
    """
    if not job.model and settings.init is None:
        raise StageError("no policy to train: set policy.model, or train.init for a tiny random one")
    if job.model and settings.init is not None:
        raise StageError(f"policy.model ({job.model}) and train.init are both set; leave one of them out")
    if settings.init is not None:
        tokenizer, window, warning = new_tokenizer(texts, settings.init), settings.window, None
    else:
        _refuse_adapters(job, settings)
        tokenizer, (window, warning) = load_tokenizer(job), _chosen_window(job, settings)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise StageError(
                f"policy.model {job.model!r}: its tokenizer has neither a padding nor an end-of-sequence token; set "
                "pad_token in its tokenizer_config.json"
            )
        tokenizer.pad_token = tokenizer.eos_token  # padding is never part of the loss
    template = set_chat_template(tokenizer, settings.chat_template)
    return Tokenization(tokenizer, window, template, stop_ids_of(job, tokenizer), warning)


def stop_ids_of(job: TrainingJob, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a generation: the tokenizer's end of sequence, and those of generation_config.json."""
    from transformers import GenerationConfig

    ends: list[int | None] = [tokenizer.eos_token_id]
    if job.model:
        try:
            named = GenerationConfig.from_pretrained(base_and_adapters(job)[0]).eos_token_id
        except OSError:  # the model has no generation_config.json
            named = None
        ends += named if isinstance(named, list) else [named]
    return frozenset(end for end in ends if end is not None)


def prepare_model(
    job: TrainingJob, settings: BasePolicySettings, tokenizer: Any, counts: TokenCounts, bfloat16: bool
) -> Any:
    """The policy's model, or with ``init`` a random one with positions for the longest row.

    Weights are float32; those that LoRA freezes are bfloat16 if the passes are (``bfloat16``). Raises
    :class:`lrf.errors.StageError`, also if the tokenizer's ids exceed the model's vocabulary.
    """
    import torch

    dtype = torch.bfloat16 if settings.lora is not None and bfloat16 else torch.float32
    random = settings.init is not None
    config = random_config(tokenizer, settings.init, counts.longest) if settings.init else load_config(job)
    refuse_architecture(config, settings, counts.longest, job)
    continued = settings.lora is not None and settings.lora.continue_adapters
    model = random_model(config, job.seed).to(dtype) if random else load_model(job, dtype, continued=continued)
    text = model.config.get_text_config()
    if settings.sequence_parallel > 1 and getattr(text, "head_dim", 0) is None:  # DeepSpeed reads it
        text.head_dim = text.hidden_size // text.num_attention_heads
    if (largest_id := counts.largest_id) >= (size := model.get_input_embeddings().num_embeddings):
        raise StageError(
            f"policy.model {job.model!r}: its tokenizer makes tokens up to {largest_id}, but the model "
            f"knows only {size}; tokenizer and weights are of different models"
        )
    return model


def refuse_architecture(config: Any, settings: BasePolicySettings, longest: int, job: TrainingJob) -> None:
    """Raise :class:`lrf.errors.StageError` if settings ask for what a model of this config can't do.

    Before its weights are loaded: adapters on modules that it doesn't have, prompts or sequences that can't be shared.
    ``longest`` is the longest sequence in tokens.
    """
    from transformers import AutoModelForCausalLM

    from lrf_training.architecture import not_for_sequence_parallelism, not_plain

    if (model_type := AutoModelForCausalLM._model_mapping.get(type(config), None)) is not None:
        refuse_checkpointing(model_type, settings)
    if settings.lora is not None and not settings.lora.continue_adapters:
        lora_config(settings, empty_model(config, job.trust_remote_code))
    processes, shared = settings.sequence_parallel, getattr(settings, "prefix_sharing", None)
    if processes == 1 and shared != "on":
        return
    refusal = not_plain(config, longest, trust_remote_code=job.trust_remote_code)
    if refusal and shared == "on":
        raise StageError(f"train.prefix_sharing: on, but {refusal}; set it to auto or off")
    if processes > 1 and refusal:
        raise StageError(
            f"train.sequence_parallel: {processes} works with plain causal attention only, but {refusal}; set it to 1"
        )
    if processes > 1 and (refusal := not_for_sequence_parallelism(config, processes)):
        raise StageError(f"train.sequence_parallel: {processes} can't be, since {refusal}; set another, or 1")


def refuse_checkpointing(model: Any, settings: TrainingSettings) -> None:
    """Raise :class:`lrf.errors.StageError` if a model (or its class) can't compute activations again, as is asked."""
    if settings.gradient_checkpointing and not model.supports_gradient_checkpointing:
        name = model.__name__ if isinstance(model, type) else type(model).__name__
        raise StageError(
            f"train.gradient_checkpointing: transformers' {name} can't compute activations again; set "
            "gradient_checkpointing: false, which takes more memory"
        )


def base_and_adapters(job: TrainingJob) -> tuple[str, Path | None]:
    """The model whose weights are loaded, and the folder of adapters to merge into it, if ``job.model`` is one."""
    folder = Path(job.model or "")
    if not (folder / ADAPTERS).exists() or (folder / "config.json").exists():
        return job.model or "", None
    try:
        return str(json.loads((folder / ADAPTERS).read_text(encoding="utf-8"))["base_model_name_or_path"]), folder
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(
            f"{folder / ADAPTERS}: it doesn't name the adapters' model (base_model_name_or_path)"
        ) from error


def _refuse_adapters(job: TrainingJob, settings: TrainingSettings) -> None:
    """Raise :class:`lrf.errors.StageError` if ``job.model`` is adapters and the training can't start from them."""
    lora, problem = getattr(settings, "lora", None), None
    continued = lora is not None and lora.continue_adapters
    if base_and_adapters(job)[1] is None:
        if continued:
            raise StageError(f"train.lora.continue_adapters: policy.model {job.model!r} is no folder of adapters")
        return
    if not settings.has_lm_head:
        problem = "a reward model can't start from them; merge them into their model first (peft's merge_and_unload)"
    elif continued:
        return
    elif lora is not None and not lora.merge:
        problem = (
            "new adapters would be of a model that isn't saved, so set lora.merge: true, or train the same ones with "
            "lora.continue_adapters: true"
        )
    elif settings.zero == 3:
        problem = "under zero: 3 no process has the weights to merge them into; merge them first, or take zero: 2"
    if problem is not None:
        raise StageError(
            f"policy.model {job.model!r} has LoRA adapters, which are merged as they are loaded: {problem}"
        )


def load_tokenizer(job: TrainingJob) -> Any:
    """The model's tokenizer. Raises :class:`lrf.errors.StageError`."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(job.model, trust_remote_code=job.trust_remote_code)
    except Exception as error:  # hub, file system, JSON or a missing library
        raise StageError(_could_not_load("tokenizer", job, error)) from error


def load_config(job: TrainingJob) -> Any:
    """The model's configuration. Raises :class:`lrf.errors.StageError`."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(base_and_adapters(job)[0], trust_remote_code=job.trust_remote_code)
    except Exception as error:
        raise StageError(_could_not_load("configuration", job, error)) from error


def window_of(config: Any) -> int | None:
    """The longest sequence in tokens that a model of this config is made for; None if its config doesn't say.

    ``max_position_embeddings`` is the extended window for some types of RoPE (llama3, longrope) and the original one
    for others, where it is multiplied by the factor (as vLLM does).
    """
    config = config.get_text_config()
    longest: int | None = getattr(config, "max_position_embeddings", None)
    ropes = getattr(config, "rope_parameters", None) or {}
    if longest is None:
        return None
    for rope in ropes.values() if ropes and all(isinstance(rope, dict) for rope in ropes.values()) else (ropes,):
        if rope.get("rope_type") in ("linear", "dynamic", "yarn"):
            original = rope.get("original_max_position_embeddings") or longest
            longest = max(longest, int(original * (rope.get("factor") or 1)))
    return longest


def _chosen_window(job: TrainingJob, settings: TrainingSettings) -> tuple[int | None, str | None]:
    """The window to train in, and a warning if the settings' is larger than the model's own."""
    config = load_config(job)
    own, chosen = window_of(config), settings.window
    if chosen is None or own is None or chosen <= own:
        return chosen or own, None
    if not getattr(config.get_text_config(), "rope_parameters", None):
        raise StageError(
            f"train.window: {chosen}, but {job.model} has learned positions for {own} tokens only; leave window out"
        )
    return chosen, f"train.window: {chosen} is more than the {own} tokens that {job.model} was made for"


def empty_model(config: Any, trust_remote_code: bool) -> Any:
    """A model of the config without memory for its weights (on torch's device "meta")."""
    import torch
    from transformers import AutoModelForCausalLM

    from lrf_training.architecture import aside

    with aside(), torch.device("meta"):
        return AutoModelForCausalLM.from_config(copy.deepcopy(config), trust_remote_code=trust_remote_code)


def load_model(job: TrainingJob, dtype: Any, *, continued: bool = False) -> Any:
    """The model, from safetensors only; adapters are merged into theirs, or with ``continued`` to be trained further.

    Raises :class:`lrf.errors.StageError`, also if a weight is missing.
    """
    from transformers import AutoModelForCausalLM

    base, adapters = base_and_adapters(job)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=job.trust_remote_code,
            output_loading_info=True,
        )
    except Exception as error:
        raise StageError(_could_not_load("model", job, error)) from error
    refuse_other_weights(job, report["missing_keys"], report["unexpected_keys"])
    return model if adapters is None else _with_adapters(model, adapters, merged=not continued)


def _with_adapters(model: Any, adapters: Path, *, merged: bool) -> Any:
    try:
        from peft import PeftModel
    except ImportError:
        raise StageError(f"policy.model {str(adapters)!r} contains adapters: pip install 'lrf[lora]'") from None
    try:
        adapted = PeftModel.from_pretrained(model, str(adapters), is_trainable=not merged)
        return adapted.merge_and_unload() if merged else adapted
    except Exception as error:  # weights of another shape, a damaged file
        raise StageError(f"policy.model {str(adapters)!r}: its adapters don't fit their model: {error}") from error


def refuse_other_weights(job: TrainingJob, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """Raise :class:`lrf.errors.StageError` if a checkpoint lacks weights of the model, or has others.

    transformers would initialise the former at random and ignore the latter, with no more than a warning.
    """
    names = {"missing": sorted(missing), "not of this model": sorted(unexpected)}
    problems = [f"{len(of)} {what} ({', '.join(of[:3])}{', …' if of[3:] else ''})" for what, of in names.items() if of]
    if problems:
        raise StageError(
            f"policy.model {job.model!r}: its weights don't fit its architecture: {'; '.join(problems)}. Missing "
            "weights would be random, others ignored; take a complete checkpoint of this kind of model"
        )


def _could_not_load(what: str, job: TrainingJob, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"policy.model {job.model!r}: its {what} can't be loaded: {reason}; it must be a folder, or the id of a public "
        "model, with safetensors weights of a causal language model"
    )


def new_tokenizer(texts: Iterable[str], init: Init) -> Any:
    """A byte-level BPE tokenizer of up to ``init.vocab`` tokens, trained on ``texts``; deterministic."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|end|>"]
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=init.vocab,
            special_tokens=special,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token=special[0], eos_token=special[1])


def random_config(tokenizer: Any, init: Init, window: int) -> Any:
    """The config of a small Llama with positions for ``window`` tokens."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=init.hidden,
        intermediate_size=4 * init.hidden,
        num_hidden_layers=init.layers,
        num_attention_heads=init.heads,
        num_key_value_heads=init.heads,
        max_position_embeddings=window,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )


def random_model(config: Any, seed: int) -> Any:
    """A Llama with random weights, by ``seed``."""
    from transformers import LlamaForCausalLM, set_seed

    set_seed(seed)
    return LlamaForCausalLM(config)


def new_model(tokenizer: Any, init: Init, window: int, seed: int) -> Any:
    """A random Llama with positions for ``window`` tokens, initialised with ``seed``."""
    return random_model(random_config(tokenizer, init, window), seed)


def set_chat_template(tokenizer: Any, file: Path | None) -> str:
    """Set the tokenizer's chat template; returns where it comes from: "file", "own" or "plain"."""
    if file is not None:
        try:
            tokenizer.chat_template = file.read_text(encoding="utf-8")
        except OSError as error:
            raise StageError(f"train.chat_template: {file}: {error.strerror}") from None
        return "file"
    if tokenizer.chat_template:
        return "own"
    if tokenizer.eos_token is None:
        raise StageError(
            "the policy's tokenizer has neither a chat template nor an end-of-sequence token, so answers would have no "
            "end; set train.chat_template to a file"
        )
    begins = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    tokenizer.chat_template = ("{{- bos_token }}" if begins else "") + PLAIN_TEMPLATE
    return "plain"
