"""How modules are found."""
