"""The tests. Folders mirror the product's; sim, interop, architecture, docs and benchmarks stand beside them."""
