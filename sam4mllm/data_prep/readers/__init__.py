"""One data set, one file: how its raw annotations are found and read, with the layout that it expects."""
