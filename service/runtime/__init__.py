"""What a process of the node needs to run: its folder, log, loops, state."""
