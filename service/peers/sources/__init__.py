"""Where images and earlier studies come from."""
