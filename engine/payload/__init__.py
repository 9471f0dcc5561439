"""Packs uids into request bodies within the size limit."""
