"""From a payload to an outcome in the ledger: answers, retries, splits and the way through them."""
