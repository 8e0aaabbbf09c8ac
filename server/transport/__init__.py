"""How messages get to clients and back: over any Flower grid, or this machine's own."""
