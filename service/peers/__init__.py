"""How the node meets others: associations, admission, TLS, HTTP."""
