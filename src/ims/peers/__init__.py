"""CALLS the services of other regions, through the client, as what this one is there."""
