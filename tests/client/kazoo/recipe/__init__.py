"""The blocking recipes."""
