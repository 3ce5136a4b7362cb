"""Speaks gRPC: parses requests, renders answers; decides nothing."""
