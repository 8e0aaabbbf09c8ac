"""The server halves of every method, the round loop, and the grid that carries messages."""
