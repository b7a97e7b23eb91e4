"""Side-by-side measurements, one script a claim: `make bench`, or `python -m benchmarks.NAME`. Ratios count, not times: machines differ."""
