"""The database itself: engine, schema and its migrations, and who may work on it."""
