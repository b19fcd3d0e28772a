"""Settings of the dimension ``classifier``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lrf.errors import ConfigError
from lrf.prompting.templates import Template
from lrf.settings import FilePath, ModelReference, Settings


def _template(text: str) -> str:
    try:
        Template(text, ("context", "question"), "prompt_template")
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return text


class ClassifierSettings(Settings):
    """A reward model: any sequence classifier of the transformers library, or one that the trainer ``reward`` made."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset({"device"})

    model: FilePath | None = Field(None, description="The folder of the reward model, with safetensors weights.")
    hub_model: str | None = Field(None, description="In place of model: its id on the Hugging Face hub.")
    revision: str | None = Field(None, description="Branch, tag or commit of hub_model.")
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model.")
    head: str | None = Field(
        None,
        description="Which output to read, by the model's own label; null where it has only one. Dimensions that "
        "differ only in head and scale share the model and its work.",
    )
    zero_at: float | None = Field(
        None,
        allow_inf_nan=False,
        description="The output that is a rating of 0; null takes what the trainer `reward` wrote beside the weights.",
    )
    ten_at: float | None = Field(
        None,
        allow_inf_nan=False,
        description="The output that is a rating of 10; outputs beyond either end are cut off.",
    )
    prompt_template: Annotated[str, AfterValidator(_template)] = Field(
        "<<context>>\n\n<<question>>",
        description="How context and query become the prompt that the answer answers, unless the sample has messages. "
        "As the model was trained: another than that of a model made by the trainer `reward` is refused.",
    )
    chat_template: FilePath | None = Field(
        None, description="A file with a Jinja chat template, in place of the tokenizer's own."
    )
    max_tokens: int | None = Field(
        None,
        ge=2,
        description="Longest prompt with answer, in tokens; null leaves only the model's own window. Nothing is cut: "
        "a candidate with a longer one is unscored.",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="Number format of the weights; auto takes the checkpoint's."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where there is one.")

    @property
    def model_reference(self) -> ModelReference:
        return ModelReference(str(self.model or self.hub_model))

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.model is None) == (self.hub_model is None):
            raise ValueError("give model, a folder, or hub_model, a name on the hub; one of the two")
        if (self.zero_at is None) != (self.ten_at is None):
            raise ValueError("give both of zero_at and ten_at, or neither")
        if self.zero_at is not None and self.zero_at == self.ten_at:
            raise ValueError("zero_at and ten_at are the same output")
        return self
