"""One file per data set: the expected layout of its raw annotations, and how they are read."""
