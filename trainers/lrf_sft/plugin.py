"""What this package registers."""

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_trainers() -> list[ComponentSpec]:
    return [
        ComponentSpec(
            name="sft",
            target="lrf_sft.trainer:SFT",
            settings="lrf_sft.settings:SFTSettings",
            summary="supervised fine-tuning on answers, through TRL; several files with weights, nothing is ever cut",
            extra="train",
        )
    ]
