"""Alembic environment: the node hands over its own connection."""

from alembic import context

from service.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
)
context.run_migrations()
