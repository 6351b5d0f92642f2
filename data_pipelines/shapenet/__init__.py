"""ShapeNetCore55 with the split of the SHREC tracks, aligned and perturbed, and ten classes of it."""
