"""Knows who calls: turns what came with a call into a Caller."""
