"""Uids into request bodies under the limit."""
