"""Preference training: DPO with a cross-entropy term on the chosen answer."""
