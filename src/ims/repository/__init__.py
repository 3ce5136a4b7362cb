"""Speaks SQL: records in, records out; the only room that imports sqlalchemy."""
