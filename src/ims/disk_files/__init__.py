"""Knows disk formats: inspects, measures and converts; trusts nothing it reads."""
