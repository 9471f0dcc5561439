"""A sync of all configured cohorts: many runs, in the sessions of their workspaces."""
