"""A Hub on loopback: a real HTTP server that the unmodified `huggingface_hub` client talks to.

`server.LoopbackHub` is the server, `client.run_client` runs Python with the client pointed at it.
Nothing is imported here, so that `python -m tests.hub.server` starts without a warning.
"""
