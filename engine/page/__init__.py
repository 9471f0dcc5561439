"""The morning page: one HTML file without scripts, which makes no request."""
