"""What this package registers."""

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_trainers() -> list[ComponentSpec]:
    return [
        ComponentSpec(
            name="dpo",
            target="lrf_dpo.trainer:DPO",
            settings="lrf_dpo.settings:DPOSettings",
            summary="DPO with a cross-entropy term on the chosen answer, through TRL; long prompts are never cut",
            extra="train",
        )
    ]
