"""What was received: objects on their way in, as indexed, put aside, and as studies."""
