"""A judge for lrf: Claude by Anthropic's Messages API."""
