"""Infrastructure that every stage uses: files, locks, processes, settings, names, progress. Independent of masks."""
