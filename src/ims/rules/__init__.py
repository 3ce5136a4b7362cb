"""Knows the law: one function per sentence of it; fetches nothing, changes nothing, knows no clock."""
