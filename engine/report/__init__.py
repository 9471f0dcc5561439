"""What the ledger says of runs and uids, folded into values for people and for programs."""
