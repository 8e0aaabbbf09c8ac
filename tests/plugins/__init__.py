"""Parts of a researcher's own, as they would stand in a file beside a study."""
