"""lrf_doors registers no component: stacks name its functions in their own settings."""
