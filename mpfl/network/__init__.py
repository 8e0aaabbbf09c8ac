"""What a network is to pruning: layers, units, and what depends on what."""
