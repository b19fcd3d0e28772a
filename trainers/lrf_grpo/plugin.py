"""What this package registers."""

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_trainers() -> list[ComponentSpec]:
    return [
        ComponentSpec(
            name="grpo",
            target="lrf_grpo.trainer:GRPO",
            settings="lrf_grpo.settings:GRPOSettings",
            summary="online training with the pipeline's dimensions as the reward, through TRL; GRPO, or RLOO",
            extra="train",
            rewards=True,
        )
    ]
