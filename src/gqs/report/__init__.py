"""Reports and figures: blocks, figures of results and of pixels, captions."""
