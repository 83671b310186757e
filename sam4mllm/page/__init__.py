"""Pages to look at: one HTML file each that stands alone, pictures and charts and all. Knows no samples and no models.

`sheet` makes the page, `charts` its histograms, `curves` its curves, `bars` its stacked bars, `panels` its pictures.
"""
