"""Asks others: keys and backup vaults; knows no records."""
