"""Values and paths of the protocol, under kazoo's module names."""
