"""The report as a page: chapters as drawn, figures and tables within the page, and where the runs come from."""
