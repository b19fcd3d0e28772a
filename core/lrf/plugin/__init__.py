"""Registration of components by plugins: hooks, loading, and the catalog of what is installed."""
