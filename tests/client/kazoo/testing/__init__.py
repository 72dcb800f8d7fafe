"""kazoo's test cases on the embedded ensemble."""
