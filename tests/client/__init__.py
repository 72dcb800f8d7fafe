"""Tests of the client: the sans-IO session by event scripts, the shell on memory streams and virtual time."""
