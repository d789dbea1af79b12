"""One module for each form that the database has had."""
