"""Reports: blocks rendered by templates to HTML, Markdown and LaTeX, their figures and pictures."""
