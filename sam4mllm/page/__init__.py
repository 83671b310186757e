"""Pages to look at: one HTML file each that stands alone, with pictures and charts in it. Knows no samples and no models.

`sheet` makes the page, `charts` its histograms, `curves` its curves, `bars` its stacked bars, `panels` its pictures.
"""
