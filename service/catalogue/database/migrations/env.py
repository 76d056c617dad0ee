"""Alembic environment: the node hands over its own connection."""

from alembic import context

from mirv.service.catalogue.database.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
)
context.run_migrations()
