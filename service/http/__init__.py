"""The web pages: status, runs and their pictures, health, metrics."""
