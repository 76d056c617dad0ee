"""The ``mirv`` command: thin, each command calls one function and prints what it says."""
