"""kazoo's test harness, on an embedded ensemble."""
