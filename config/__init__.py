"""What is given from outside: settings, profiles, spaces, sites."""
