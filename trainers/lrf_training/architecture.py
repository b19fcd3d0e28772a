"""Whether a model's attention is plain causal attention, as prefix sharing and sequence parallelism take it to be.

The config names what goes beyond it (windows, recurrent layers, sinks, softcaps, ALiBi, positions that depend on a
sequence's length, dropout). What it doesn't name is found by a trial: a small random copy of the model must have the
same loss and gradients with shared prompts as with each answer after its own prompt.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from lrf_training.prefix_sharing import PrefixSharing, share_prompts

TOLERANCE = 1e-5
"""Largest relative difference of losses and of gradients in the trial."""

_PLAIN_LAYERS = frozenset({"full_attention", "moe", "sparse", "dense"})
_DROPOUT = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob", "attn_dropout", "attention_dropout_prob")
_BY_LENGTH = ("dynamic", "longrope")
"""Types of RoPE whose frequencies depend on the longest position of a batch."""

_SHORT, _FEW, _ENOUGH = 8, 24, 128
"""Lengths in the copy: of windows, of rotary embeddings, and more than its longest sequence."""

_SIZES = {"intermediate_size": 64, "moe_intermediate_size": 32, "vocab_size": 64, "num_local_experts": 4}
_SIZES |= {"num_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1}
_SIZES |= {"topk_group": 1, "first_k_dense_replace": 1, "shared_expert_intermediate_size": 32}


def not_plain(config: Any, longest: int | None = None, *, trust_remote_code: bool = False) -> str | None:
    """Why a model of this config can't share prompts, as the end of a sentence; None if it can.

    ``longest`` is the longest sequence in tokens: a window as long as it makes no difference. Needs no weights.
    """
    text = config.get_text_config()
    if config.is_encoder_decoder:
        return "the model has an encoder, which sees a whole prompt at once"
    longest = longest or 1 << 40
    return next(_named(text, longest), None) or _tried(_Key(config, trust_remote_code, longest))


def unsupported(model: Any, longest: int | None = None) -> str | None:
    """:func:`not_plain` for a model."""
    return not_plain(model.config, longest, trust_remote_code=True)


def not_for_sequence_parallelism(config: Any, processes: int) -> str | None:
    """Why heads of a model with plain causal attention can't be split over processes; None if they can."""
    config = config.get_text_config()
    heads, of_keys = getattr(config, "num_attention_heads", None), getattr(config, "num_key_value_heads", None)
    if heads is None or of_keys is None or not hasattr(config, "hidden_size"):
        return (
            f"{config.model_type}'s config doesn't say its heads of keys (num_key_value_heads), which DeepSpeed needs"
        )
    if getattr(config, "kv_lora_rank", None):
        return "the model's queries and values differ in size (latent attention), which DeepSpeed can't split"
    if heads % processes or (of_keys % processes and processes % of_keys):
        return (
            f"{processes} processes must divide the model's {heads} attention heads, and divide its {of_keys} heads of "
            "keys and values or be a multiple of them"
        )
    return None


def _named(config: Any, longest: int) -> Iterator[str]:
    """What the config says that goes beyond plain causal attention."""
    for kind in dict.fromkeys(_layer_types(config)):
        window = _window_of(config, kind)
        if kind not in _PLAIN_LAYERS and (window is None or window < longest):
            what = {"sliding_attention": "attend to a sliding window", "chunked_attention": "attend to chunks"}
            yield f"some of the model's layers {what.get(kind, f'are {kind}')}" + (f" of {window}" if window else "")
    for name, window in _windows(config).items():
        if window < longest:
            yield f"the model attends to a sliding window ({name}: {window})"
    if getattr(config, "attn_logit_softcapping", None):
        yield f"the model caps attention's logits (attn_logit_softcapping: {config.attn_logit_softcapping})"
    attention = getattr(config, "attn_config", None)
    if any(getattr(part, name, False) is True for part in (config, attention) for name in ("alibi", "use_alibi")):
        yield "the model's attention depends on distances (ALiBi)"
    for kind, known in _ropes(config):
        if kind in _BY_LENGTH and known < longest:
            yield f"positions depend on a sequence's length beyond {known} tokens (rope_type: {kind})"
    if any(_number(getattr(config, name, 0)) for name in _DROPOUT):
        yield "the model drops attention weights while it trains"


def _layer_types(config: Any) -> Sequence[str]:
    return tuple(getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ())


def _window_of(config: Any, kind: str) -> int | None:
    names = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
    return getattr(config, names.get(kind, ""), None)


def _windows(config: Any) -> dict[str, int]:
    """The config's windows that aren't those of some layers."""
    if not getattr(config, "use_sliding_window", True) or _layer_types(config):
        return {}
    return _lengths(config, "window")


def _lengths(config: Any, *words: str) -> dict[str, int]:
    """Whole numbers of the config with one of the words in their names."""
    names = [name for name in vars(config) if any(word in name for word in words) and name != "max_window_layers"]
    values = {name: getattr(config, name) for name in names}
    return {name: value for name, value in values.items() if type(value) is int and value > 0}


def _rope_parameters(config: Any) -> Sequence[dict[str, Any]]:
    """Parameters of the config's rotary embeddings; some have several, for layers of different types."""
    parameters = getattr(config, "rope_parameters", None) or {}
    nested = bool(parameters) and all(isinstance(rope, Mapping) for rope in parameters.values())
    return list(parameters.values()) if nested else [parameters]


def _ropes(config: Any) -> Iterator[tuple[str, int]]:
    """Type and original length of the config's rotary embeddings."""
    longest = getattr(config, "max_position_embeddings", None) or 0
    for rope in _rope_parameters(config):
        yield rope.get("rope_type", "default"), rope.get("original_max_position_embeddings") or longest


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0


class _Key:
    """A config to remember a trial by."""

    def __init__(self, config: Any, trust_remote_code: bool, longest: int) -> None:
        self.config, self.trust, self.longest = config, trust_remote_code, longest
        self._text = f"{trust_remote_code} {longest} {type(config).__name__} {config.to_json_string(use_diff=False)}"

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._text == other._text


@cache
def _tried(key: _Key) -> str | None:
    """Why sharing isn't the same in a small copy of the model, or None."""
    reason = ""
    with aside():
        for config in _copies(key.config, key.longest):
            try:
                model = _random_model(config, key.trust)
                if (named := _named_by_model(model)) is not None:
                    return named
                plain, drawn = _plain(model), _drawn(model)
            except Exception as error:  # the copy's sizes don't fit each other, or its types: another copy
                reason = f"a small copy of the model can't be tried: {_short(error)}"
                continue
            try:
                shared = _shared(_random_model(config, key.trust))
            except Exception as error:
                if "'layout'" in str(error):
                    return f"{key.config.model_type} passes nothing on to its attention"
                return f"the model's attention can't be replaced by one that shares prompts: {_short(error)}"
            return _difference(plain, shared) or drawn
    return reason


def _named_by_model(model: Any) -> str | None:
    if getattr(model, "_is_stateful", False):
        return "some of the model's layers are recurrent"
    if any(name.rpartition(".")[2] in ("sinks", "sink", "attention_sink_bias") for name, _ in model.named_parameters()):
        return "the model's attention has sinks"
    if not model._supports_attention_backend:
        return f"the attention of {model.config.model_type} can't be replaced (it isn't called by name)"
    return None


def _difference(plain: tuple[torch.Tensor, torch.Tensor], shared: tuple[torch.Tensor, torch.Tensor]) -> str | None:
    loss, gradients = (float((b - a).norm() / a.norm()) for a, b in zip(plain, shared, strict=True))
    if loss <= TOLERANCE and gradients <= TOLERANCE:
        return None
    return (
        f"its attention isn't plain causal attention: in a small copy of it sharing changes losses by {loss:.1e} and "
        f"gradients by {gradients:.1e}"
    )


def _drawn(model: Any) -> str | None:
    """What chance decides in training, dropout modules aside, which trainers switch off."""
    ids = torch.tensor([_sequences(model)[0][0]])
    for module in model.train().modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    logits = []
    with torch.no_grad():
        for seed in (1, 2):
            torch.manual_seed(seed)
            logits.append(model(input_ids=ids, use_cache=False).logits)
    if torch.equal(*logits):
        return None
    config = model.config.get_text_config()
    names = [name for name in vars(config) if re.search("drop|noise", name) and _number(getattr(config, name))]
    said = ", ".join(f"{name}: {getattr(config, name)}" for name in names)
    return f"the model draws at random while it trains ({said or 'which experts see a token, say'})"


_PROMPT_LENGTHS = (40, 12)
_ANSWERS = (3, 7, 1)


def _sequences(model: Any) -> list[tuple[list[int], list[int]]]:
    """Prompts with three answers each, in ids from 3 on."""
    generator, words = torch.Generator().manual_seed(7), min(60, model.config.get_text_config().vocab_size)
    drawn = [torch.randint(3, words, (length,), generator=generator).tolist() for length in _PROMPT_LENGTHS]
    answers = [torch.randint(3, words, (length,), generator=generator).tolist() for length in _ANSWERS]
    return [(prompt, answer) for prompt in drawn for answer in answers]


def _plain(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of each answer token, each answer after its own prompt, and their gradients."""
    losses = []
    for prompt, answer in _sequences(model):
        ids = torch.tensor([prompt + answer])
        positions = torch.arange(ids.shape[1])[None]
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits[0, len(prompt) - 1 : -1]
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="none"))
    return _with_gradients(model, torch.cat(losses))


def _shared(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The same with shared prompts."""
    if model.base_model is model:
        raise ValueError("its backbone isn't a module of its own")
    PrefixSharing(model)
    batch = share_prompts(_sequences(model), 0)
    mask = batch.pop("completion_mask")[:, 1:].bool()
    labels = batch["input_ids"]
    logits = model(**batch, labels=labels, use_cache=False).logits  # (answers, longest answer, vocabulary)
    if logits.shape[0] != len(labels):
        raise ValueError("its backbone isn't called as a module")
    logits = logits[:, : mask.shape[1]][mask]
    return _with_gradients(model, torch.nn.functional.cross_entropy(logits, labels[:, 1:][mask], reduction="none"))


def _with_gradients(model: Any, losses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(losses.sum(), parameters, allow_unused=True)
    zeros = [
        torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(parameters, gradients, strict=True)
    ]
    return losses.detach(), torch.cat(zeros)


def _random_model(config: Any, trust_remote_code: bool) -> Any:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    made = copy.deepcopy(config)
    model = AutoModelForCausalLM.from_config(made, trust_remote_code=trust_remote_code, dtype=config.dtype)
    for name, parameter in sorted(model.named_parameters()):
        if parameter.dim() > 1:  # attention sharp enough that a wrong mask shows
            parameter.data.normal_(std=2 * parameter.shape[-1] ** -0.5)
        elif name.endswith("sinks"):
            parameter.data.normal_()
    return model.eval()


def _copies(config: Any, longest: int) -> Iterator[Any]:
    """Small copies of a config, each nearer to the original than the one before, in case it can't be built.

    In float64, where rounding can't be taken for a difference; some models compute in float32 only.
    """
    for heads, positions in ((True, _FEW), (True, _ENOUGH), (False, _FEW), (False, _ENOUGH)):
        for dtype in (torch.float64, torch.float32):
            small = copy.deepcopy(config)
            small.dtype = dtype
            _shrink(small.get_text_config(), heads, positions, longest)
            yield small


def _shrink(config: Any, heads: bool, positions: int, longest: int) -> None:
    """Few layers, experts and tokens; short windows and rotary lengths; with ``heads`` few heads.

    Windows and rotary lengths of ``longest`` tokens stay beyond the copy's sequences.
    """
    _take_layers(config)
    for name, value in _lengths(config, "window", "chunk").items():
        setattr(config, name, _ENOUGH if value >= longest else min(value, _SHORT))
    if any(kind in _BY_LENGTH and known >= longest for kind, known in _ropes(config)):
        positions = _ENOUGH
    for rope in _rope_parameters(config):
        if "original_max_position_embeddings" in rope:
            rope["original_max_position_embeddings"] = positions
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if hasattr(config, name):
            setattr(config, name, None)
    if heads:
        _take_heads(config)
    lengths = dict.fromkeys(("max_position_embeddings", "original_max_position_embeddings"), positions)
    for name, size in (_SIZES | lengths).items():
        if type(getattr(config, name, None)) is int:
            setattr(config, name, min(size, getattr(config, name)))


def _take_layers(config: Any) -> None:
    """Keep one layer of each kind, and two at least."""
    count = config.num_hidden_layers
    lists = {name: value for name, value in vars(config).items() if isinstance(value, list) and len(value) == count}
    kinds = dict[tuple[str, ...], int]()
    for layer in range(count):
        kinds.setdefault(tuple(repr(value[layer]) for value in lists.values()), layer)
    kept = sorted({*kinds.values(), *range(min(2, count))})
    for name, value in lists.items():
        setattr(config, name, [value[layer] for layer in kept])
    config.num_hidden_layers = len(kept)


def _take_heads(config: Any) -> None:
    """At most four heads of the same size, as many to a key as before if that many are left."""
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    of_keys = getattr(config, "num_key_value_heads", None)
    few = min(heads, 4)
    if of_keys:
        config.num_key_value_heads = max(1, few // min(few, heads // of_keys))
    config.num_attention_heads, config.hidden_size = few, few * size


@contextmanager
def aside() -> Iterator[None]:
    """Without the libraries' log; random numbers and DeepSpeed's sharded loading stay as they were."""
    from transformers.integrations import deepspeed
    from transformers.utils import logging

    sharded, verbosity = deepspeed._hf_deepspeed_config_weak_ref, logging.get_verbosity()
    deepspeed._hf_deepspeed_config_weak_ref = None
    logging.set_verbosity(logging.CRITICAL)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), torch.device("cpu"):
            yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = sharded
        logging.set_verbosity(verbosity)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}…"
