"""Delivery of payloads: requests, answers, retries, splits, and outcomes in the ledger."""
