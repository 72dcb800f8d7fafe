"""Minutes of faults on real processes; `make soak` runs them, `make test` does not."""
