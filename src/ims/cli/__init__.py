"""The `ims` command; talks to a server through the client, and starts one through bootstrap."""
