"""What pynetdicom lacks under load and attack."""
