"""Equal tuning: as many trials for every method of a comparison, on data held out for that."""
