"""What the API has acknowledged of each cohort."""
