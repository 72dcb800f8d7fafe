"""Tests of `terzetto.client.wire`: against golden frames, against a second codec, and against hostile bytes."""
