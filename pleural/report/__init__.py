"""A folder of results as one HTML page that opens anywhere, without a network.

task        the report: which kind of folder it is, and what is drawn of it
training, prediction, evaluation    what is said of each kind
page        the content of a page, and how it becomes HTML (report.html, .css, .js)
plots       plots to play with; stills: the same as files
slices      a study cropped to the body, with outlines of its masks
overlay     pictures of slices; viewer: all slices to scroll through
case_table  CSV tables as values, with titles, units and decimals
"""

from pleural.report.task import report

__all__ = ["report"]
