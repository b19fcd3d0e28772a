"""Online training: the policy writes groups of answers, lrf's engine rewards them (GRPO and RLOO)."""
