"""File formats that several data sets share, read without trust: REFER, COCO, polygons, and pickles of plain values."""
