"""From a configuration to finished run folders."""
