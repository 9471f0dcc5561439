"""The plan: the differences between the export and the acknowledged uids, and the guards."""
