"""Bulk audience sync for the MoEngage Cohort Sync API."""

__version__ = "0.1.0"
