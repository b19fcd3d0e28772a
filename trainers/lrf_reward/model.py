"""The sequence classifier that the training starts from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lrf.errors import StageError
from lrf.protocols import TrainingJob
from lrf_reward.settings import RewardSettings
from lrf_training.adapters import lora_config
from lrf_training.models import new_model, refuse_checkpointing, refuse_other_weights


def new_classifier(
    job: TrainingJob, settings: RewardSettings, tokenizer: Any, labels: tuple[str, ...], longest: int, largest_id: int
) -> Any:
    """``policy.model`` (with ``init`` a random model) with a new head of one output for each label, in float32.

    ``longest`` is the longest sequence in tokens, ``largest_id`` the largest token id. Raises
    :class:`lrf.errors.StageError`.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, LlamaForSequenceClassification, set_seed

    head = {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
        "problem_type": "regression",
        "pad_token_id": tokenizer.pad_token_id,
    }
    set_seed(job.seed)
    if settings.init is not None:
        config = new_model(tokenizer, settings.init, longest, job.seed).config
        config.update(head)
        with _whole_weights():
            model = LlamaForSequenceClassification(config)
    else:
        try:
            model, report = AutoModelForSequenceClassification.from_pretrained(
                job.model,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=job.trust_remote_code,
                output_loading_info=True,
                **head,
            )
        except Exception as error:  # hub, file system, JSON or a missing library
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise StageError(
                f"policy.model {job.model!r}: no sequence classifier can be made of it: {reason}; it must be a folder, "
                "or the id of a public model, with safetensors weights"
            ) from error
        body = f"{model.base_model_prefix}."  # a new head is expected, and the language model's head is ignored
        refuse_other_weights(
            job,
            *([key for key in report[keys] if key.startswith(body)] for keys in ("missing_keys", "unexpected_keys")),
        )
        if new := sorted(report["missing_keys"]):
            job.report({"note": f"{', '.join(new)}: not in {job.model}, so it starts from random weights"})
    refuse_checkpointing(model, settings)
    if largest_id >= (size := model.get_input_embeddings().num_embeddings):
        raise StageError(
            f"policy.model {job.model!r}: its tokenizer makes tokens up to {largest_id}, but the model knows only "
            f"{size}; tokenizer and weights are of different models"
        )
    return model


@contextmanager
def _whole_weights() -> Iterator[None]:
    """Let a random model be drawn whole under ZeRO-3, as without it; DeepSpeed shards it when the training begins."""
    from transformers.integrations import deepspeed

    known = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed._hf_deepspeed_config_weak_ref = None
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = known


def with_adapters(model: Any, settings: RewardSettings) -> Any:
    """The classifier with LoRA adapters, whose new head is trained whole; without ``lora``, unchanged.

    Raises as :func:`lrf_training.adapters.lora_config` does.
    """
    config = lora_config(settings, model)
    if config is None:
        return model
    from peft import get_peft_model

    config.task_type, config.modules_to_save = "SEQ_CLS", ["score"]
    adapted = get_peft_model(model, config)
    adapted.enable_input_require_grads()  # checkpointed activations need it where the embedding is frozen
    return adapted
