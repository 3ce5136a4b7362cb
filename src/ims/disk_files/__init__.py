"""Knows disk formats: inspects and measures; trusts nothing it reads."""
