"""The web app: pages, job queue and worker, HTTP routes, command line."""
