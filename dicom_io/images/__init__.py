"""Image series as volumes."""
