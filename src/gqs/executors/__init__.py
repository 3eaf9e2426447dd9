"""Work over many items: local child processes, or the workers of a Dask cluster."""
