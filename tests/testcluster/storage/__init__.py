"""Storage: byte formats, recovery, damage, and both kinds of storage against one contract."""
