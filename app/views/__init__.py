"""The pages: flat scripts that app.main runs."""
