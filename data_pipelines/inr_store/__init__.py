"""INRs of the shapes of another prepared data set, with the true values they were fitted to."""
