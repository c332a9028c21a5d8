"""Parts of the Annotate page."""
