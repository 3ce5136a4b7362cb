"""How the tables became what they are, one revision after the other, the same for every database.

A revision only expands: new tables, and new columns that a server without them leaves alone. What has no
use any more is taken away a release later, when no server that knows it is left (docs/migrations.md).
"""
