"""What Alembic runs: it migrates on the connection, and in the transaction, that it is given."""

from alembic import context

from ims.repository.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # Both databases can undo a change of their tables, and either all revisions are applied or none.
    transactional_ddl=True,
)
context.run_migrations()
