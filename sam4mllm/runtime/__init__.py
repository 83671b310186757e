"""What every stage needs and no stage owns: files, locks, processes, settings, names, progress.

Knows nothing of masks.
"""
