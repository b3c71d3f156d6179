"""What embedders are tested with, ours and those of other packages; no pytest is needed for it."""
