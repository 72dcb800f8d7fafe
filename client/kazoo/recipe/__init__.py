"""kazoo's recipes, as blocking shells over the native ones."""
