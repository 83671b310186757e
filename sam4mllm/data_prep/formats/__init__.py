"""File formats that several data sets share, read without trust: REFER's, COCO's, polygons, pickles as plain values."""
