"""The server's side of the gene maps: values and tiles of a finished run, and their addresses."""
