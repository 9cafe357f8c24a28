"""Where the steps of a training compute: in this process, or on the workers of a Dask cluster."""
