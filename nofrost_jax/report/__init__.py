"""Tables made of result JSON, for documents. Reads files only and imports no jax."""
