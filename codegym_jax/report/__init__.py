"""One self-contained HTML page that shows a run. Knows only the files of the run folder."""
