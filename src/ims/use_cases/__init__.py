"""Tells the story of each RPC in business words; speaks neither gRPC nor SQL."""
