"""Two services as small as possible, made of everything the chassis offers: what its tests and benchmarks run."""
