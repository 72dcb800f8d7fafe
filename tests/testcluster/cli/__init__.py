"""The `terzetto` command."""
