"""Holds bytes; knows neither images nor tenants."""
