"""The program ``mpfl``: one sub-command a file."""
