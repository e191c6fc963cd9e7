"""The training task, the one loop that works on it, and what it goes on from when it is killed."""
